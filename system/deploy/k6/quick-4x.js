// Up to 800 users at the gateway, for 4 processors behind it.
import { check, sleep } from 'k6';
import * as q from './lib.js';

const plan = [[60, 200], [360, 800], [60, 0]];

export const options = {
  stages: q.stages(plan),
  thresholds: Object.assign({ http_req_failed: ['rate<0.10'] }, q.rates({ http_reqs: ['rate>2000'] }, plan, 0.05)),
};

export default function () {
  const answer = q.post(`${q.gateway}/api/ingest`, {
    source: 'quick-4x',
    data: `quick ${__VU}-${__ITER}`,
    metadata: { vu: __VU },
  });
  check(answer, { '200': (a) => a.status === 200, 'under 1000 ms': (a) => a.timings.duration < 1000 });
  sleep(0.05);
}

export const handleSummary = q.summary;
