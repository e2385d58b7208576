// Drives the status page in a headless Chromium, as a person would, and fails at the first difference.
//
//   node drive.js MODULES SANDBOX FOLDER URL TOKEN
//
// MODULES is the folder in which `programs` has installed puppeteer-core and axe-core, SANDBOX the program of
// the sandbox, which is stopped and started again here. URL is a service that wants TOKEN, which may use the
// type hello. Screenshots are left in FOLDER. tests/it/page.rs runs this.
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';

const [modules, program, folder, secured, token] = process.argv.slice(2);
const require = createRequire(join(modules, 'package.json'));
const puppeteer = require('puppeteer-core');
const axe = readFileSync(require.resolve('axe-core'), 'utf8');
const WAIT = {timeout: 20000, polling: 50};

const children = [];

// Starts a sandbox; returns its process and its URL.
function startSandbox(port) {
  const apps = new URL('apps.yaml', import.meta.url).pathname;
  const child = spawn(program, ['--port', String(port), '--templates', apps], {stdio: ['ignore', 'pipe', 'inherit']});
  children.push(child);
  let output = '';
  return new Promise((resolve, reject) => {
    child.on('exit', () => reject(new Error(`the sandbox has ended: ${output}`)));
    child.stdout.on('data', chunk => {
      output += chunk;
      const url = /The service listens at (\S+)/.exec(output)?.[1];
      if (url && output.includes('Ctrl-C stops everything.')) resolve({child, url});
    });
  });
}

const stop = child => new Promise(resolve => { child.on('exit', resolve); child.kill('SIGTERM'); });
const complaints = [];

async function open(browser, url) {
  const page = await browser.newPage();
  page.on('pageerror', error => complaints.push(`${error}`));
  page.on('dialog', dialog => complaints.push(`a script has run: ${dialog.message()}`));
  page.on('console', message => {
    // That a request is refused or cut is what some steps are about.
    if (message.type() === 'error' && !/Failed to load resource|net::ERR/.test(message.text())) complaints.push(message.text());
  });
  await page.goto(url);
  return page;
}

const state = (page, wanted) => page.waitForFunction(it => document.body.dataset.state === it, WAIT, wanted);
const shows = (page, selector, text) => page.waitForFunction(
  (selector, text) => [...document.querySelectorAll(selector)].some(it => it.checkVisibility() && it.textContent.includes(text)),
  WAIT, selector, text).catch(async () => {
  throw new Error(`"${text}" is not in ${selector}; there is: ${await page.evaluate(() => document.body.innerText)}`);
});
const lacks = (page, selector, text) => page.waitForFunction(
  (selector, text) => ![...document.querySelectorAll(selector)].some(it => it.textContent.includes(text)), WAIT, selector, text);
const button = (page, name) => page.locator(`::-p-aria([name="${name}"][role="button"])`).click();
const focused = page => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent);

// What hinders people with other ways to read or to point.
async function checkBarriers(page, what) {
  // Not as an element: the policy of the page would forbid it.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await window.axe.run(document)).violations.map(it =>
    ({id: it.id, impact: it.impact, where: it.nodes.slice(0, 3).map(node => `${node.target}: ${node.failureSummary}`)})));
  const serious = found.filter(it => ['serious', 'critical'].includes(it.impact));
  assert.deepEqual(serious, [], `${what}: barriers`);
  if (found.length) console.log(`${what}: minor: ${found.map(it => it.id).join(', ')}`);
}

async function look(page, name) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}]);
    await page.evaluate(() => scrollTo(0, 0));
    for (const width of [360, 390, 1280]) {
      await page.setViewport({width, height: width < 500 ? 844 : 800});
      const spill = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(spill <= 0, `${name} is ${spill} px too wide at ${width} px`);
      if (width !== 360) await page.screenshot({path: join(folder, `${name}-${width}-${scheme}.png`)});
    }
    await checkBarriers(page, `${name}, ${scheme}`);
  }
  await page.emulateMediaFeatures([]);
}

async function startInstance(page, type, name, values = {}) {
  await button(page, `Start an instance of ${type}`);
  await page.waitForSelector('#start[open] #start-name', WAIT);
  await page.type('#start-name', name);
  for (const [variable, value] of Object.entries(values)) await page.type(`[data-variable="${variable}"]`, value);
  await page.keyboard.press('Enter');
}

async function close(page) {
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('dialog[open]'), WAIT);
}

async function checkSandbox(browser) {
  let {child, url} = await startSandbox(0);
  const page = await open(browser, url);
  await state(page, 'live');
  await shows(page, '#count', 'There are no instances');
  await shows(page, '#type-list .invalid', 'invalid');
  await page.locator('#type-list summary').click();
  await shows(page, '#type-list', 'Variables: ');

  // A start shows its phases.
  await startInstance(page, 'slow', 'ann');
  await Promise.all([shows(page, '#steps', 'readying'), shows(page, '#rows', 'starting')]);
  await shows(page, '#start-end', 'slow/ann is ready at');
  await shows(page, '#rows .ready', 'ready');
  await shows(page, '#start-curl', `curl -sS '${url}/app/slow/ann'`);
  await close(page);
  assert.equal(await focused(page), 'Start an instance of slow', 'the focus returns');

  // Names are no markup.
  const odd = '<img src=x onerror=alert(1)>';
  await startInstance(page, 'hello', odd, {tz: "O'Brien & co"});
  await shows(page, '#start-end', `hello/${odd} is ready`);
  await shows(page, '#start-curl', 'tz=O%27Brien+%26+co');
  await look(page, 'start');
  assert.equal(await page.$('img'), null);
  await close(page);

  // A failing type shows why.
  await startInstance(page, 'fails', 'eve');
  await shows(page, '#start-end', 'fails/eve has failed');
  await shows(page, '#start-end', 'exit code 3');
  await close(page);
  await shows(page, '#rows .failed', 'failed');

  // One with a value that is needed.
  await startInstance(page, 'region', 'rio');
  assert.ok(await page.$('#start-form :invalid'), 'the value is demanded');
  await page.type('[data-variable=region]', 'eu');
  await page.keyboard.press('Enter');
  await shows(page, '#start-end', 'region/rio is ready');
  await close(page);

  // Labels, the log, and the way to another program.
  await button(page, 'slow/ann');
  await page.type('#label-key', 'team');
  await page.type('#label-value', '<b>a</b>');
  await shows(page, '#label-curl', `-d '{"team":"<b>a</b>"}'`);
  await page.keyboard.press('Enter');
  await shows(page, '#labels', 'team=<b>a</b>');
  await shows(page, '#instance-said', 'The labels are changed');
  await shows(page, '#rows', 'team=<b>a</b>');
  await button(page, 'Show the last 100 lines');
  await page.waitForSelector('#log pre, #log .error', WAIT);
  await look(page, 'instance');
  await button(page, 'Remove label team');
  await lacks(page, '#labels', 'team');

  // The whole page, filtered and not.
  await close(page);
  await look(page, 'page');
  await page.select('#by-status', 'failed');
  await shows(page, '#count', '1 of them match');
  assert.equal(await page.$$eval('#rows tr', rows => rows.length), 1);
  await page.select('#by-status', '');
  await page.type('#by-text', 'onerror');
  await shows(page, '#count', '1 of them match');
  await page.evaluate(() => { document.querySelector('#by-text').value = ''; document.querySelector('#filter').oninput(); });

  // Others change something: it is seen, and the keyboard stays where it was.
  await fetch(`${url}/app/hello/bob`);
  await shows(page, '#rows', 'hello/bob');

  // A stop asks first.
  await button(page, 'slow/ann');
  await button(page, 'Stop …');
  await shows(page, '#confirm', 'Stop slow/ann?');
  await button(page, 'Keep it');
  await button(page, 'Stop …');
  await button(page, 'Stop it');
  await shows(page, '#facts', 'no longer exists');
  await close(page);
  await lacks(page, '#rows', 'slow/ann');

  // The replica is restarted: what it knew is shown until it is back, and then what it knows now.
  await stop(child);
  await state(page, 'lost');
  await shows(page, '#state', 'Next attempt in');
  await shows(page, '#rows', 'hello/bob');
  await look(page, 'lost');
  ({child} = await startSandbox(new URL(url).port));
  await button(page, 'Reconnect now').catch(() => {});
  await state(page, 'live');
  await lacks(page, '#rows', 'hello/bob');
  await shows(page, '#count', 'There are no instances');

  // Many.
  await page.evaluate(() => {
    const item = number => ({type: 'hello', name: `n${number}`, uid: `${number}`, status: 'ready', labels: {}, restarts: 0, since: new Date().toISOString()});
    apply({name: 'relist', data: {instances: Array.from({length: 10000}, (_, number) => item(number))}});
  });
  await shows(page, '#count', '10,000 instances: 10,000 ready. The first 100 are shown.');
  const took = await page.evaluate(() => { const begun = performance.now(); render(); return performance.now() - begun; });
  assert.ok(took < 500, `10,000 instances take ${took} ms`);
  await page.close();
  await stop(child);
}

async function checkToken(browser) {
  const page = await open(browser, secured);
  await state(page, 'token');
  await shows(page, '#token', 'requires a token');
  assert.equal(await focused(page), '', 'the field has the focus');
  await look(page, 'token');
  await page.setViewport({width: 800, height: 600});
  await page.type('#token-field', 'wrong-0123456789abcdef');
  await page.keyboard.press('Enter');
  await shows(page, '#token', 'unknown or has expired');
  await page.type('#token-field', token);
  await page.keyboard.press('Enter');
  await state(page, 'live');
  await shows(page, '#type-list', 'hello');
  await startInstance(page, 'hello', 'ann');
  await shows(page, '#start-end', 'hello/ann is ready');
  await shows(page, '#start-curl', 'Bearer $TOKEN');
  await checkBarriers(page, 'a start with a token');
  await close(page);
  await checkBarriers(page, 'with a token');
  assert.ok(!(await page.content()).includes(token), 'the token is not shown');
  assert.ok(!page.url().includes(token));
  await page.reload();
  await state(page, 'live');
  await shows(page, '#rows', 'hello/ann');
  await button(page, 'Forget the token');
  await state(page, 'token');
  await lacks(page, '#rows', 'hello/ann');
  const docs = await page.goto(`${secured}/docs`);
  assert.equal(docs.status(), 200, 'it is for everybody');
  await page.close();
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
try {
  await checkSandbox(browser);
  if (secured) await checkToken(browser);
  assert.deepEqual(complaints, []);
} finally {
  for (const child of children) child.kill();
  await browser.close();
}
console.log('the page works');
