// What needs a service that does as it is told: odd names, refusals, hostile logs, ten thousand instances.
import assert from 'node:assert/strict';
import {button, checkBarriers, close, fill, focused, giveToken, lacks, look, open, shows, startInstance, startService, state, stopService}
  from './steps.js';

export async function checkSandbox(browser, wanted) {
  const service = await startService(wanted, 0);
  const {url} = service;
  const page = await open(browser, url);
  await state(page, 'live');
  await shows(page, '#type-list .invalid', 'invalid');
  await page.locator('#type-list summary').click();
  await shows(page, '#type-list', 'Variables: ');

  // Names are no markup.
  const odd = '<img src=x onerror=alert(1)>';
  await startInstance(page, 'hello', odd, {tz: "O'Brien & co"});
  await shows(page, '#start-end', `hello/${odd} is ready`);
  await shows(page, '#start-curl', 'tz=O%27Brien+%26+co');
  await look(page, 'start');
  assert.equal(await page.$('img'), null);
  await close(page);

  // One with a value that is needed.
  await startInstance(page, 'region', 'rio');
  assert.ok(await page.$('#start-form :invalid'), 'the value is demanded');
  await page.type('[data-variable=region]', 'eu');
  await page.keyboard.press('Enter');
  await shows(page, '#start-end', 'region/rio is ready');
  await close(page);

  // The whole page, filtered and not.
  await fetch(`${url}/app/never/eve`);
  await shows(page, '#rows .failed', 'failed');
  await look(page, 'page');
  await look(page, 'list', '#filter');
  await page.select('#by-status', 'failed');
  await shows(page, '#count', '1 of them match');
  assert.equal(await page.$$eval('#rows tr', rows => rows.length), 1);
  await page.select('#by-status', '');
  await fill(page, '#by-text', 'onerror');
  await shows(page, '#count', '1 of them match');
  await fill(page, '#by-text', '');

  await checkRefresh(browser, url);

  // A stop that does not come through says so.
  await page.select('#by-type', 'hello');
  await stopService(service);
  await state(page, 'lost');
  await button(page, 'Stop 1 instance …');
  await button(page, 'Stop them');
  await shows(page, '#many-said.error', 'Not done: the service cannot be reached.');
  await checkBarriers(page, 'a stop that failed');
  await page.select('#by-type', '');

  // Many.
  await page.evaluate(() => {
    const item = number => ({type: 'hello', name: `n${number}`, uid: `${number}`, status: 'ready', labels: {}, restarts: 0, since: new Date().toISOString()});
    apply({name: 'relist', data: {instances: Array.from({length: 10000}, (_, number) => item(number))}});
  });
  await shows(page, '#count', '10,000 instances: 10,000 ready. The first 100 are shown.');
  const took = await page.evaluate(() => { const begun = performance.now(); render(); return performance.now() - begun; });
  assert.ok(took < 500, `10,000 instances take ${took} ms`);
  await page.select('#by-type', 'hello');
  await button(page, 'Stop 10,000 instances …');
  await shows(page, '#confirm-note', 'hello/n0, hello/n1, hello/n10, hello/n100, hello/n1000 and 9,995 more.');
  await shows(page, '#confirm-note', 'One request stops 1,000 at most.');
  await page.close();
}

// What no event tells is read again: every 30 s and on return to the page, but not more often than every 5 s, and
// for a 304 where nothing has changed.
async function checkRefresh(browser, url) {
  const page = await browser.newPage();
  let reads = 0;
  page.on('request', request => { if (request.url().includes('/instances?')) reads += 1; });
  await page.evaluateOnNewDocument(() => {
    const real = setInterval;
    window.every = {};
    window.setInterval = (run, ms) => { window.every[ms] = run; return real(run, ms); };
  });
  await page.goto(url);
  await shows(page, '#rows', 'region/rio');
  const read = () => page.evaluate(async () => {
    while (isRefreshing) await new Promise(done => setTimeout(done, 10));
    refreshedAt = -Infinity;
    window.every[30000]();
    while (isRefreshing) await new Promise(done => setTimeout(done, 10));
  });
  await read();
  const unchanged = async () => {
    const text = await (await fetch(`${url}/metrics`)).text();
    const line = text.split('\n').find(it => it.includes('{route="/instances",method="GET",code="304"}'));
    return line ? Number(line.split(' ').pop()) : 0;
  };
  const before = await unchanged();
  await read();
  assert.equal(await unchanged(), before + 1, 'what has not changed is a 304');
  const readsBefore = reads;
  await page.evaluate(() => { for (let count = 0; count < 20; count++) dispatchEvent(new Event('focus')); });
  await fetch(`${url}/app/region/rio`, {method: 'PATCH', body: '{"a":"1"}', headers: {'Content-Type': 'application/json'}});
  await read();
  await shows(page, '#rows', 'a=1');
  assert.equal(reads, readsBefore + 1, 'not at each return');
  await page.close();
}

export async function checkToken(browser, {url, token, without}) {
  const page = await open(browser, url);
  await state(page, 'token');
  await shows(page, '#token', 'requires a token');
  assert.equal(await focused(page), '', 'the field has the focus');
  await look(page, 'token');
  await page.setViewport({width: 800, height: 600});
  await giveToken(page, 'wrong-0123456789abcdef');
  await shows(page, '#token', 'unknown or has expired');
  await giveToken(page, token);
  await state(page, 'live');
  await shows(page, '#rows', 'hello/log');
  await checkBarriers(page, 'with a token');
  assert.ok(!(await page.content()).includes(token), 'the token is not shown');
  assert.ok(!page.url().includes(token));
  await checkLogs(page);
  await page.reload();
  await state(page, 'live');
  await shows(page, '#rows', 'hello/log');
  await button(page, 'Forget the token');
  await state(page, 'token');
  await lacks(page, '#rows', 'hello/log');
  // One without the right to read logs.
  await giveToken(page, without);
  await state(page, 'live');
  await refusedLog(page, 'hello/log', 'You may not read the log');
  await close(page);
  const docs = await page.goto(`${url}/docs`);
  assert.equal(docs.status(), 200, 'it is for everybody');
  await page.close();
}

async function refusedLog(page, key, ...texts) {
  await button(page, key);
  await button(page, 'Show the last 100 lines');
  for (const text of texts) await shows(page, '#log-said.error', text);
}

// Logs are text of others: it stays text, and a long one stays small.
async function checkLogs(page) {
  await button(page, 'hello/log');
  await button(page, 'Show the last 100 lines');
  await shows(page, '#log', '</pre><img src=x onerror=alert(1)><script>alert(1)</script>');
  await shows(page, '#log-said', 'The end of a long log:');
  const {inner, text} = await page.$eval('#log', it => ({inner: it.childElementCount, text: it.textContent}));
  assert.equal(inner, 0, 'a log has no elements');
  assert.equal(await page.$('#log img, #log script, #log b'), null);
  assert.ok(text.length <= 1 << 18, `${text.length} characters are shown`);
  assert.ok(text.includes('a red word'), 'colours are left out');
  assert.ok(text.endsWith('the last line\n'));
  assert.ok(await page.$eval('#log', it => it.scrollTop + it.clientHeight > it.scrollHeight - 5), 'its end is in view');
  await look(page, 'log', '#log-form');
  await page.locator('#log-previous').click();
  await button(page, 'Show the last 100 lines');
  await shows(page, '#log-said.error', 'There is no log: ');
  await shows(page, '#log-curl', '/logs?tail=100&previous=true');
  await close(page);
  await refusedLog(page, 'stuck/ann', 'stuck/ann has no log yet: it is pulling');
  await look(page, 'no-log', '#log-form');
  await close(page);
}

export async function checkUnpermittedLogs(browser, url) {
  const page = await open(browser, url);
  await state(page, 'live');
  await refusedLog(page, 'hello/ann', 'This service may not read logs: ', 'get pods/log');
  await checkBarriers(page, 'logs that are not permitted');
  // One that has gone since.
  await fetch(`${url}/app/hello/ann`, {method: 'DELETE'});
  await shows(page, '#facts', 'no longer exists');
  await button(page, 'Show the last 100 lines');
  await shows(page, '#log-said.error', 'There is no log: there is no instance hello/ann.');
  await page.close();
}
