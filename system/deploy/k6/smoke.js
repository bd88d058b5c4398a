// Ten users at most, straight at ingest service and processor: does everything answer?
import { sleep } from 'k6';
import { Rate, Trend } from 'k6/metrics';
import * as q from './lib.js';

const errors = new Rate('errors');
const processingTime = new Trend('processing_time', true);
const sources = ['web-app', 'mobile-app', 'iot-sensor', 'batch-job'];

export const options = {
  stages: q.stages([[30, 5], [60, 10], [30, 0]]),
  thresholds: { http_req_duration: ['p(95)<100'], http_req_failed: ['rate<0.01'], errors: ['rate<0.01'] },
};

export function setup() {
  q.requireHealth([q.ingest, q.processor]);
}

export default function () {
  errors.add(!q.healthy([q.ingest, q.processor], true));
  const answer = q.post(`${q.ingest}/ingest`, {
    source: q.one(sources),
    data: `smoke of user ${__VU}, iteration ${__ITER}, at ${new Date().toISOString()}`,
    metadata: { test: 'smoke', user: String(__VU) },
  });
  processingTime.add(answer.timings.duration);
  errors.add(!q.accepted(answer, 100, 'ingest'));
  sleep(q.short ? 0.1 : q.between(1, 3));
}

export const handleSummary = q.summary;
