// What a person does in the status page and sees of it, as steps for the other files; and a service as a process.
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';

export const plan = JSON.parse(process.argv[2]);
const require = createRequire(join(plan.modules, 'package.json'));
export const puppeteer = require('puppeteer-core');
const axe = readFileSync(require.resolve('axe-core'), 'utf8');
const WAIT = {timeout: 20000, polling: 50};
// What an event tells: long before the page reads anew what none does.
export const AT_ONCE = {...WAIT, timeout: 5000};

const children = new Set();

// Starts a service (its command, with PORT for the port, what it adds to its environment, and the line with its
// address); returns its process and its URL once it is ready.
export async function startService({command: [program, ...words], environment, listens}, port) {
  const set = text => text.replaceAll('PORT', port);
  const own = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, set(value)]));
  const child = spawn(program, words.map(set), {stdio: ['ignore', 'pipe', 'pipe'], env: {PATH: process.env.PATH, ...own}});
  children.add(child);
  let output = '';
  const address = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`the service has ended: ${output}`)));
    const read = chunk => {
      output += chunk;
      const found = new RegExp(listens).exec(output);
      if (found) resolve(found[1]);
    };
    for (const stream of [child.stdout, child.stderr]) stream.on('data', read);
  });
  const url = `http://${address}`;
  while (!(await fetch(`${url}/readyz`)).ok) await new Promise(done => setTimeout(done, 50));
  return {child, url};
}

export async function stopService({child}) {
  const ended = new Promise(resolve => { child.on('exit', resolve); });
  child.kill('SIGTERM');
  await ended;
  children.delete(child);
}

export function killServices() {
  for (const child of children) child.kill('SIGKILL');
}

// What a script of the page must never do.
export const complaints = [];

export async function open(browser, url) {
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

// Where it has not connected again by itself.
export const reconnect = page => page.$eval('#retry', it => it.checkVisibility() && it.click());

export const state = (page, wanted) => page.waitForFunction(it => document.body.dataset.state === it, WAIT, wanted);

export const shows = (page, selector, text, wait = WAIT) => page.waitForFunction(
  (selector, text) => [...document.querySelectorAll(selector)].some(it => it.checkVisibility() && it.textContent.includes(text)),
  wait, selector, text).catch(async () => {
  throw new Error(`"${text}" is not in ${selector}; there is: ${await page.evaluate(() => document.body.innerText.slice(0, 5000))}`);
});

export const lacks = (page, selector, text) => page.waitForFunction(
  (selector, text) => ![...document.querySelectorAll(selector)].some(it => it.textContent.includes(text)),
  WAIT, selector, text).catch(() => { throw new Error(`"${text}" is still in ${selector}`); });

export const button = (page, name) => page.locator(`::-p-aria([name="${name}"][role="button"])`).click();
export const focused = page => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent);

// Fills a field anew, as somebody who types; an empty text clears it.
export async function fill(page, selector, text) {
  await page.focus(selector);
  await page.$eval(selector, it => it.select());
  if (text) await page.type(selector, text);
  else await page.keyboard.press('Backspace');
}

// What hinders people with other ways to read or to point.
export async function checkBarriers(page, what) {
  // Not as an element: the policy of the page would forbid it.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await window.axe.run(document)).violations.map(it =>
    ({id: it.id, impact: it.impact, where: it.nodes.slice(0, 3).map(node => `${node.target}: ${node.failureSummary}`)})));
  const serious = found.filter(it => ['serious', 'critical'].includes(it.impact));
  assert.deepEqual(serious, [], `${what}: barriers`);
  if (found.length) console.log(`${what}: minor: ${found.map(it => it.id).join(', ')}`);
}

// The same in each scheme and at each width; screenshots of what is chosen are left in the folder of the plan.
export async function look(page, name, what = 'header') {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}]);
    for (const width of [360, 390, 1280]) {
      await page.setViewport({width, height: width < 500 ? 844 : 800});
      const spill = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll('dialog[open]')]
        .map(it => it.scrollWidth - it.clientWidth).find(it => it > 0));
      assert.equal(spill, undefined, `${name} is ${spill} px too wide at ${width} px`);
      await page.$eval(what, it => it.scrollIntoView());
      await page.screenshot({path: join(plan.screenshots, `${name}-${width}-${scheme}.png`)});
    }
    await checkBarriers(page, `${name}, ${scheme}`);
  }
  await page.emulateMediaFeatures([]);
}

export async function giveToken(page, token) {
  await state(page, 'token');
  await page.type('#token-field', token);
  await page.keyboard.press('Enter');
}

export async function startInstance(page, type, name, values = {}) {
  await button(page, `Start an instance of ${type}`);
  await page.waitForSelector('#start[open] #start-name', WAIT);
  await page.type('#start-name', name);
  for (const [variable, value] of Object.entries(values)) await page.type(`[data-variable="${variable}"]`, value);
  await page.keyboard.press('Enter');
}

export async function close(page) {
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('dialog[open]'), WAIT);
}

export async function setLabel(page, key, value) {
  await page.type('#label-key', key);
  await page.type('#label-value', value);
  await page.keyboard.press('Enter');
}
