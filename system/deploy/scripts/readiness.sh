#!/usr/bin/env bash
# Whether this machine can carry the load scenarios: cores, memory, disk, tools, ports. Ends with 1 if not.
set -u
bad=0
row() { printf '%-10s %-6s %s\n' "$1" "$2" "$3"; [[ $2 != no ]] || bad=1; }
grade() { (($1 >= $2)) && echo good || { (($1 >= $3)) && echo enough || echo no; }; }
cores=$(nproc)
row cores "$(grade "$cores" 4 2)" "$cores (4 are good, 2 the least)"
memory=$(($(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1048576))
row memory "$(grade "$memory" 5 3)" "$memory GB free (over 4 is good, over 2 the least)"
disk=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1048576))
row disk "$(grade "$disk" 11 6)" "$disk GB free (over 10 is good, over 5 the least)"
for tool in k6 curl cargo; do
    command -v "$tool" >/dev/null && row "$tool" good "$(command -v "$tool")" || row "$tool" no "not installed"
done
command -v docker >/dev/null && row docker good "$(command -v docker)" || row docker enough "not installed: no compose"
for port in 8080 8081 8082 9090 3000 9093; do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && row "$port" no "somebody listens there" || row "$port" good free
done
exit $bad
