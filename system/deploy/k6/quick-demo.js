// Half a minute at the gateway, to show that it runs.
import { check, sleep } from 'k6';
import * as q from './lib.js';

export const options = {
  stages: q.stages([[10, 5], [15, 10], [5, 0]]),
  thresholds: { http_req_duration: ['p(95)<100'], http_req_failed: ['rate<0.1'] },
};

export default function () {
  const answer = q.post(`${q.gateway}/api/v1/ingest`, {
    source: 'quick-demo',
    data: `demo ${__VU}-${__ITER}`,
    metadata: { vu: __VU, iteration: __ITER },
  });
  check(answer, { '200': (a) => a.status === 200, 'under 100 ms': (a) => a.timings.duration < 100 });
  if (__ITER % 5 === 0) {
    check(q.status().answer, {
      'status: 200': (a) => a.status === 200,
      'status: names its services': (a) => a.body.includes('services'),
    });
  }
  sleep(0.1);
}

export const handleSummary = q.summary;
