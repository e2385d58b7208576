// Drives the status page in a headless Chromium, as a person would, and fails at the first difference.
//
//   node drive.js PLAN
//
// PLAN is JSON: `modules`, the folder in which `programs` has installed puppeteer-core and axe-core;
// `screenshots`, a folder; and what is done: `walks`, `sandbox`, `secured` and `unpermitted`, each with what the
// function below takes. tests/it/page.rs makes it.
import assert from 'node:assert/strict';
import {complaints, killServices, plan, puppeteer} from './steps.js';
import {walk} from './walk.js';
import {checkSandbox, checkToken, checkUnpermittedLogs} from './special.js';

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

async function done(what, run) {
  const begun = Date.now();
  // Each with a storage of its own: what one has kept, the next does not have.
  const context = await browser.createBrowserContext();
  await run(context);
  await context.close();
  console.log(`FIGURE the page: ${what} in ${Date.now() - begun} ms`);
}

try {
  // Beside each other: they wait most of the time.
  await Promise.all((plan.walks ?? []).map(one => done(one.name, it => walk(it, one))));
  if (plan.sandbox) await done('special cases', it => checkSandbox(it, plan.sandbox));
  if (plan.secured) await done('a token and logs', it => checkToken(it, plan.secured));
  if (plan.unpermitted) await done('logs that are not permitted', it => checkUnpermittedLogs(it, plan.unpermitted));
  assert.deepEqual(complaints, []);
} finally {
  killServices();
  await browser.close();
}
