// Small one-line records, up to 200 users, straight at the ingest service.
import { sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import * as q from './lib.js';

const errors = new Rate('errors');
const requests = new Counter('requests_total');
const latency = new Trend('processing_latency', true);
const kinds = ['click', 'view', 'purchase', 'login', 'logout'];
const plan = [[60, 50], [180, 100], [180, 200], [180, 200]];

export const options = {
  stages: q.stages(plan),
  thresholds: Object.assign(
    {
      http_req_duration: ['p(95)<100', 'p(99)<200'],
      http_req_failed: ['rate<0.05'],
      errors: ['rate<0.05'],
      processing_latency: ['p(95)<50'],
    },
    q.rates({ requests_total: ['rate>400'] }, plan, 0.25),
  ),
};

export default function () {
  const kind = q.one(kinds);
  const answer = q.post(
    `${q.ingest}/ingest`,
    {
      source: kind,
      data: JSON.stringify({ kind, user: __VU, iteration: __ITER, at: Date.now() }),
      metadata: { kind, user: String(__VU), iteration: String(__ITER) },
    },
    { 'X-Test-Run': 'simple-load', 'X-Virtual-User': String(__VU) },
  );
  requests.add(1);
  latency.add(answer.timings.duration);
  errors.add(!q.accepted(answer, 1000, 'ingest'));
  sleep(q.between(0.1, 0.4));
}

export const handleSummary = q.summary;
