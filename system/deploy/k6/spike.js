// Fifty users, suddenly five hundred, and back: does it hold, and does it recover?
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';
import * as q from './lib.js';

const errors = new Rate('spike_errors');
const recovery = new Trend('recovery_time', true);
const latency = new Trend('spike_latency', true);
const sent = new Counter('spike_rps');
const plan = [[60, 50], [30, 500], [60, 500], [30, 50], [120, 50]];
const scaled = q.stages(plan).map((stage) => Number(stage.duration.slice(0, -1)));

export const options = {
  stages: q.stages(plan),
  thresholds: {
    http_req_duration: ['p(95)<500'],
    http_req_failed: ['rate<0.2'],
    spike_errors: ['rate<0.25'],
    recovery_time: ['p(95)<100'],
  },
};

// The phase by the test's own clock.
function phase() {
  const elapsed = exec.instance.currentTestRunDuration / 1000;
  if (elapsed < scaled[0]) return 'calm';
  if (elapsed < scaled[0] + scaled[1]) return 'rise';
  if (elapsed < scaled[0] + scaled[1] + scaled[2]) return 'peak';
  return 'recovery';
}

export function setup() {
  q.requireHealth([q.gateway]);
}

export default function () {
  const now = phase();
  const spiking = now === 'rise' || now === 'peak';
  const answer = q.post(
    `${q.gateway}/api/v1/ingest`,
    { source: 'spike', data: `spike ${__VU}-${__ITER}`, metadata: { spike: spiking, vu: __VU, iter: __ITER } },
    { 'X-Test-Phase': now, 'X-Spike-Test': 'true' },
    now === 'peak' ? '30s' : '10s',
  );
  sent.add(1);
  latency.add(answer.timings.duration, { phase: now });
  if (now === 'recovery') recovery.add(answer.timings.duration);
  const right = spiking
    ? check(answer, {
        'spike: below 500': (a) => a.status < 500,
        'spike: has a body': (a) => Boolean(a.body),
        'spike: under 1000 ms': (a) => a.timings.duration < 1000,
      })
    : check(answer, {
        'calm: 200': (a) => a.status === 200,
        'calm: has a message id': (a) => a.status === 200 && Boolean(a.json('messageId')),
        'calm: under 200 ms': (a) => a.timings.duration < 200,
      });
  errors.add(!right);
  if (__ITER % (now === 'peak' ? 200 : 50) === 0) q.status();
  sleep(q.between(0, now === 'peak' ? 0.1 : now === 'rise' ? 0.2 : 0.5));
}

export function teardown() {
  sleep(q.short ? 1 : 10);
  const left = q.backlog();
  console.log(`backlog ${left}: ${left < 10 ? 'recovered' : left < 100 ? 'partly recovered' : 'struggling'}`);
}

export const handleSummary = q.summary;
