#!/bin/sh
# Makes container images of NATS and Kafka on a machine whose engine reaches no registry.
#
#   testcontainers/images/build-local.sh [nats] [kafka]
#
# An image that is already there is left as it is. Needs a running engine; for nats Go; for kafka Maven and
# mmdebstrap (Debian). Set QUEUEBENCH_NATS_IMAGE and QUEUEBENCH_KAFKA_IMAGE to other images to use those.
set -eu

nats_version=2.15.2
kafka_version=4.1.0
log_binding_version=2.24.3
java_image=queuebench/java:17

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '%s\n' "$*" >&2; }

need() {
    command -v "$1" >/dev/null 2>&1 || { say "$1 is needed to build the image of $2"; exit 1; }
}

present() { docker image inspect "$1" >/dev/null 2>&1; }

build_nats() {
    image=queuebench/nats:$nats_version
    if present "$image"; then say "$image is there"; return; fi
    need go nats
    say "building nats-server $nats_version with go"
    context=$work/nats
    mkdir "$context"
    CGO_ENABLED=0 GOBIN=$context GOOS='' GOARCH='' \
        go install -trimpath "github.com/nats-io/nats-server/v2@v$nats_version"
    cp "$here/nats/Dockerfile" "$context/"
    docker build -q -t "$image" "$context" >/dev/null
    say "$image is made"
}

build_java() {
    if present "$java_image"; then say "$java_image is there"; return; fi
    need mmdebstrap java
    say "making a Debian root file system with Java 17"
    mmdebstrap --quiet --variant=minbase --include=openjdk-17-jre-headless,ca-certificates bookworm "$work/java.tar"
    docker import "$work/java.tar" "$java_image" >/dev/null
    rm "$work/java.tar"
    say "$java_image is made"
}

build_kafka() {
    image=queuebench/kafka:$kafka_version
    if present "$image"; then say "$image is there"; return; fi
    need mvn kafka
    build_java
    say "fetching kafka $kafka_version with maven"
    context=$work/kafka
    mkdir "$context"
    cat >"$context/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>queuebench</groupId><artifactId>kafka-image</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$log_binding_version</version></dependency>
  </dependencies>
</project>
POM
    (cd "$context" && mvn --batch-mode --quiet dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$context/libs")
    cp -R "$here/kafka/bin" "$here/kafka/Dockerfile" "$context/"
    docker build -q -t "$image" "$context" >/dev/null
    say "$image is made"
}

docker info >/dev/null 2>&1 || { say "no container engine answers: start one, or set DOCKER_HOST"; exit 1; }
if [ $# -eq 0 ]; then set -- nats kafka; fi
for name in "$@"; do
    case $name in
        nats) build_nats ;;
        kafka) build_kafka ;;
        *) say "no image is called $name: nats, kafka"; exit 2 ;;
    esac
done
