// Fifty users for two hours: does anything grow, slow down or fail?
import { check, sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import * as q from './lib.js';

const growth = new Trend('memory_leak_indicator');
const slowdown = new Trend('performance_degradation', true);
const errors = new Rate('long_run_errors');
const throughput = new Counter('hourly_throughput');
const health = new Rate('system_health_checks');
const plan = q.short ? [[60, 50], [180, 50], [60, 0]] : [[300, 50], [6600, 50], [300, 0]];

export const options = {
  stages: q.stages(plan),
  thresholds: {
    http_req_duration: ['p(95)<150', 'p(99)<300'],
    http_req_failed: ['rate<0.02'],
    long_run_errors: ['rate<0.02'],
    performance_degradation: ['p(95)<50'],
    system_health_checks: ['rate>0.95'],
  },
};

export function setup() {
  q.requireHealth([q.gateway]);
  if (q.status().answer.status !== 200) throw new Error('the status route does not answer');
  // The median of a few: a single first answer pays for connections that later ones find open.
  const first = Array.from({ length: 21 }, () => q.post(`${q.gateway}/api/v1/ingest`, { source: 'soak' }).timings.duration);
  return { baseline: Math.max(1, first.sort((a, b) => a - b)[10]), backlog: q.backlog() };
}

function body(hour) {
  const metadata = { hour, virtualUser: __VU, iteration: __ITER };
  const dice = Math.random();
  if (dice < 0.6) return { source: 'page-view', data: JSON.stringify({ page: `/p/${__ITER % 100}`, user: __VU }), metadata };
  const metric = (i) => ({ name: `metric-${i}`, value: Math.random(), at: Date.now() });
  if (dice < 0.9) return { source: 'metric', data: JSON.stringify([metric(1), metric(2)]), metadata };
  return { source: 'batch', data: JSON.stringify(Array.from({ length: 20 }, (_, i) => metric(i))), metadata };
}

// Each user looks when its clock comes to another hour; the short form looks every minute.
let looked;

export default function (start) {
  const hour = Math.floor(Date.now() / (q.short ? 60_000 : 3_600_000));
  const answer = q.post(
    `${q.gateway}/api/v1/ingest`,
    body(hour),
    { 'X-Test-Type': 'soak', 'X-Test-Hour': String(hour) },
    '15s',
  );
  throughput.add(1);
  slowdown.add(Math.max(0, answer.timings.duration - start.baseline));
  const right = q.accepted(answer, 1000, 'ingest');
  errors.add(!(check(answer, { 'under 5 times the baseline or 50 ms': (a) => a.timings.duration < Math.max(50, 5 * start.baseline) }) && right));
  if (looked !== hour) {
    looked = hour;
    const { body: seen } = q.status();
    health.add(q.healthy([q.gateway], true) && Boolean(seen.ingest && seen.ingest.healthy && seen.processor && seen.processor.healthy));
    growth.add(q.backlog() - start.backlog);
  }
  const dice = Math.random();
  sleep(q.between(0, dice < 0.1 ? 5 : dice < 0.3 ? 2 : 1) * (q.short ? 0.1 : 1));
}

export function teardown(start) {
  sleep(q.short ? 1 : 30);
  const grown = q.backlog() - start.backlog;
  console.log(`queue grew by ${grown}: ${grown < 50 ? 'best' : grown < 200 ? 'good' : grown < 500 ? 'fair' : 'worst'}`);
}

export const handleSummary = q.summary;
