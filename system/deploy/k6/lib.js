// What the scenarios share: addresses, stages in a long and a short form, checks and the ceiling of a plan.
//
// K6_SHORT=1 squeezes every stage (durations to a thirtieth, at least a second; users to a tenth, at least one)
// and drops the thresholds on rates, which a short form cannot reach: it shows that the scenario runs and that
// every answer is right. All durations are seconds, all sizes bytes.
import http from 'k6/http';
import { check } from 'k6';

export const short = __ENV.K6_SHORT === '1';
export const gateway = (__ENV.BASE_URL || 'http://localhost:8080').replace(/\/$/, '');
export const ingest = (__ENV.INGEST_URL || 'http://localhost:8081').replace(/\/$/, '');
export const processor = (__ENV.PROCESSOR_URL || 'http://localhost:8082').replace(/\/$/, '');

// Pairs of seconds and users.
export function stages(plan) {
  return plan.map(([seconds, users]) => ({
    duration: `${short ? Math.max(1, Math.round(seconds / 30)) : seconds}s`,
    target: short && users > 0 ? Math.max(1, Math.round(users / 10)) : users,
  }));
}

// The most iterations a second that the plan can make: mean users over mean sleep. k6 starts from one user.
export function ceiling(plan, meanSleep) {
  let users = 1;
  let area = 0;
  let time = 0;
  for (const [seconds, target] of plan) {
    area += (seconds * (users + target)) / 2;
    time += seconds;
    users = target;
  }
  return area / time / meanSleep;
}

// Thresholds on rates: refused before the run when no server could meet them, left out of a short form.
export function rates(wanted, plan, meanSleep) {
  if (short) return {};
  const most = ceiling(plan, meanSleep);
  for (const expressions of Object.values(wanted)) {
    for (const expression of expressions) {
      const limit = Number(expression.split('>')[1]);
      if (!(limit < most)) throw new Error(`${expression} is out of reach: the plan makes at most ${most.toFixed(0)}/s`);
    }
  }
  return wanted;
}

export function post(url, body, headers, timeout) {
  return http.post(url, JSON.stringify(body), {
    headers: Object.assign({ 'Content-Type': 'application/json' }, headers || {}),
    timeout: timeout || '10s',
    // One series for each route, whatever the query.
    tags: { name: url },
  });
}

export function accepted(answer, under, name) {
  const body = answer.status === 200 ? answer.json() : {};
  const checks = {};
  checks[`${name}: 200`] = (a) => a.status === 200;
  checks[`${name}: has a message id`] = () => Boolean(body.messageId);
  checks[`${name}: accepted`] = () => body.status === 'accepted';
  checks[`${name}: under ${under} ms`] = (a) => a.timings.duration < under;
  return check(answer, checks);
}

export function healthy(urls, wantsBody) {
  return urls.every((url) => {
    const answer = http.get(`${url}/health`, { tags: { name: `${url}/health` } });
    return check(answer, {
      'health: 200': (a) => a.status === 200,
      'health: healthy': (a) => !wantsBody || a.json('healthy') === true,
    });
  });
}

// Both backends as the gateway sees them.
export function status() {
  const answer = http.get(`${gateway}/api/v1/status`, { tags: { name: `${gateway}/api/v1/status` } });
  return { answer, body: answer.status === 200 ? answer.json() : {} };
}

export function backlog() {
  const { body } = status();
  return ((((body.processor || {}).stats || {}).queue || {}).CurrentSize) || 0;
}

export function requireHealth(urls) {
  for (const url of urls) {
    const answer = http.get(`${url}/health`);
    if (answer.status !== 200) throw new Error(`${url}/health answered ${answer.status}: is the pipeline up?`);
  }
}

export function between(low, high) {
  return low + Math.random() * (high - low);
}

export function one(list) {
  return list[Math.floor(Math.random() * list.length)];
}

// The best of four grades whose limit the value keeps.
function grade(value, limits, better) {
  const names = ['excellent', 'good', 'fair'];
  const at = limits.findIndex((limit) => better(value, limit));
  return at < 0 ? 'poor' : names[at];
}

// The summary to standard output, and, if K6_RESULTS names a folder and K6_NAME a test, as JSON and with grades.
export function summary(data) {
  const shown = Object.entries(data.metrics).filter(
    ([name]) => !name.startsWith('http_req_') || name === 'http_req_duration' || name === 'http_req_failed',
  );
  const out = { stdout: shown.map(([name, m]) => `${name}: ${JSON.stringify(m.values)}\n`).join('') };
  const folder = __ENV.K6_RESULTS;
  if (!folder) return out;
  const name = __ENV.K6_NAME || 'test';
  const p95 = data.metrics.http_req_duration.values['p(95)'];
  const failed = 100 * data.metrics.http_req_failed.values.rate;
  const rate = data.metrics.http_reqs.values.rate;
  const below = (value, limit) => value < limit;
  out[`${folder}/${name}_summary.json`] = JSON.stringify(data, null, 1);
  out[`${folder}/${name}_analysis.md`] = [
    `## ${name}${short ? ' (short form)' : ''}`,
    '',
    '| figure | value | grade |',
    '|---|---|---|',
    `| p95 | ${p95.toFixed(2)} ms | ${grade(p95, [100, 200, 500], below)} |`,
    `| errors | ${failed.toFixed(2)} % | ${grade(failed, [1, 5, 10], below)} |`,
    `| rate | ${rate.toFixed(0)}/s | ${grade(rate, [1000, 500, 100], (value, limit) => value >= limit)} |`,
    '',
    '',
  ].join('\n');
  return out;
}
