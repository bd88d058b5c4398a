// Up to 1600 users at the gateway, for 8 processors behind it.
import { check, sleep } from 'k6';
import * as q from './lib.js';

const plan = [[60, 500], [300, 1600], [60, 0]];

export const options = {
  stages: q.stages(plan),
  thresholds: Object.assign({ http_req_failed: ['rate<0.20'] }, q.rates({ http_reqs: ['rate>5000'] }, plan, 0.03)),
};

export default function () {
  const answer = q.post(`${q.gateway}/api/ingest`, {
    source: 'quick-8x',
    data: `quick ${__VU}-${__ITER}`,
    metadata: { vu: String(__VU) },
  });
  check(answer, { '200': (a) => a.status === 200, 'under 1000 ms': (a) => a.timings.duration < 1000 });
  sleep(0.03);
}

export const handleSummary = q.summary;
