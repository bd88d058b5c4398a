-- wrk posts what a client of the gateway posts: 117 bytes.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"source":"meter-7","data":"kwh=12.4 volts=229.8 amps=3.2 phase=1 ok=true","metadata":{"site":"north","unit":"kWh"}}'
function done(summary, latency, requests)
   io.write(string.format("RESULT rate=%.0f p50=%.3f p95=%.3f p99=%.3f ms errors=%d\n",
      summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3,
      latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
      summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read))
end
