// Four hundred users at the gateway, for several processors behind it.
import { check, sleep } from 'k6';
import * as q from './lib.js';

const plan = [[120, 100], [180, 400], [600, 400], [120, 0]];

export const options = {
  stages: q.stages(plan),
  thresholds: Object.assign(
    { http_req_failed: ['rate<0.05'], http_req_duration: ['p(95)<100', 'p(99)<200'], checks: ['rate>0.95'] },
    q.rates({ http_reqs: ['rate>1000'] }, plan, 0.1),
  ),
};

export function setup() {
  q.requireHealth([q.gateway]);
}

export default function () {
  const answer = q.post(`${q.gateway}/api/ingest`, {
    source: 'scaled-load',
    data: `scaled load of user ${__VU}, iteration ${__ITER}`,
    metadata: { vu_id: __VU, iteration: __ITER, timestamp: Date.now() },
  });
  const body = answer.status === 200 ? answer.json() : {};
  check(answer, {
    '200': (a) => a.status === 200,
    'under 500 ms': (a) => a.timings.duration < 500,
    'says that it was taken': () =>
      body.status === 'success' || body.message === 'Data ingested successfully',
    'no error status': (a) => a.status < 400,
  });
  sleep(0.1);
}

export const handleSummary = q.summary;
