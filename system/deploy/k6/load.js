// Five kinds of event from small to large, up to 200 users, straight at the ingest service.
import { check, sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import * as q from './lib.js';

const errors = new Rate('errors');
const requests = new Counter('requests_total');
const latency = new Trend('processing_latency', true);
const size = new Trend('message_size_bytes');
const run = __ENV.TEST_RUN_ID || 'load_test';
const plan = [[120, 50], [300, 100], [300, 200], [120, 100], [120, 0]];
// Two kinds sleep up to half a second, two up to two, one up to one.
const meanSleep = (0.25 * 2 + 1 * 2 + 0.5) / 5;

export const options = {
  stages: q.stages(plan),
  thresholds: Object.assign(
    {
      http_req_duration: ['p(95)<100', 'p(99)<200'],
      http_req_failed: ['rate<0.05'],
      errors: ['rate<0.05'],
      processing_latency: ['p(95)<50'],
    },
    // The plan makes at most 179 a second, so a threshold of 500 could never hold.
    q.rates({ requests_total: ['rate>100'] }, plan, meanSleep),
  ),
};

const kinds = [
  { name: 'user_action', pad: 60, sleep: 0.5 },
  { name: 'metrics', pad: 60, sleep: 0.5 },
  { name: 'system_event', pad: 240, sleep: 2 },
  { name: 'error_report', pad: 240, sleep: 2 },
  { name: 'analytics_batch', batch: 10, pad: 60, sleep: 1 },
];

function event(kind, index) {
  return { type: kind.name, user: __VU, index, at: Date.now(), text: 'x'.repeat(kind.pad) };
}

export function setup() {
  q.requireHealth([q.ingest, q.processor]);
  for (let i = 0; i < 10; i++) q.post(`${q.ingest}/ingest`, { source: 'warm-up', data: String(i) });
}

export default function () {
  const kind = q.one(kinds);
  const data = kind.batch ? Array.from({ length: kind.batch }, (_, i) => event(kind, i)) : event(kind, 0);
  const body = {
    source: kind.name,
    data: JSON.stringify(data),
    metadata: { testRun: run, virtualUser: __VU, iteration: __ITER },
  };
  const answer = q.post(`${q.ingest}/ingest`, body, { 'X-Test-Run': run, 'X-Virtual-User': String(__VU) });
  requests.add(1);
  size.add(JSON.stringify(body).length);
  latency.add(answer.timings.duration);
  const right = q.accepted(answer, 500, 'ingest');
  errors.add(!(check(answer, { 'body names no error': (a) => !a.body.includes('error') }) && right));
  if (__ITER % 50 === 0) q.healthy([q.ingest, q.processor]);
  sleep(q.between(0, kind.sleep) * (q.short ? 0.1 : 1));
}

export const handleSummary = q.summary;
