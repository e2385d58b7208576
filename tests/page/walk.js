// One walk through the page that each service is taken through: that of the sandbox, and the program on a real
// cluster, with a token or without one.
//
// The service has the types `late`, which takes seconds until it is ready, and `never`, which never is.
import assert from 'node:assert/strict';
import {AT_ONCE, button, checkBarriers, close, fill, focused, giveToken, lacks, look, open, reconnect, setLabel, shows, startInstance, startService, state, stopService}
  from './steps.js';

// `start`: the service. `token`: where it wants one. `phases`: of a start of `late`. `log`: a text of its log.
// `failure`: what is said of `never`. `survives`: whether instances outlive the service. `looks`: take screenshots.
export async function walk(browser, {service: wanted, token, phases, log, failure, survives, looks}) {
  let service = await startService(wanted, 0);
  const {url} = service;
  const examine = looks ? look : checkBarriers;
  const secret = token ? {Authorization: `Bearer ${token}`} : {};
  // What somebody else does.
  const other = (method, path, body) => fetch(`${url}/${path}`, {method, body, headers: {...secret, 'Content-Type': 'application/json'}});
  const page = await open(browser, url);
  if (token) await giveToken(page, token);
  await state(page, 'live');
  await shows(page, '#count', 'There are no instances');
  await shows(page, '#type-list', 'late');

  // A start shows its phases.
  await startInstance(page, 'late', 'ann');
  await Promise.all([...phases.map(phase => shows(page, '#steps', phase)), shows(page, '#rows', 'starting')]);
  await shows(page, '#start-end', 'late/ann is ready at');
  await shows(page, '#rows .ready', 'ready');
  await shows(page, '#start-curl', `curl -sS${token ? ' -H "Authorization: Bearer $TOKEN"' : ''} '${url}/app/late/ann'`);
  await close(page);
  assert.equal(await focused(page), 'Start an instance of late', 'the focus returns');

  // A failing type shows why.
  await startInstance(page, 'never', 'eve');
  for (const text of ['never/eve has failed', failure]) await shows(page, '#start-end', text);
  await examine(page, 'failed');
  await close(page);
  await shows(page, '#rows .failed', 'failed');

  // Labels, set here and by others, and the log.
  await button(page, 'late/ann');
  await setLabel(page, 'team', '<b>a</b>');
  await shows(page, '#labels', 'team=<b>a</b>');
  await shows(page, '#instance-said', 'The labels are changed');
  await shows(page, '#rows', 'team=<b>a</b>');
  assert.equal((await other('PATCH', 'app/late/ann', '{"owner":"somebody"}')).status, 200);
  await shows(page, '#labels', 'owner=somebody', AT_ONCE);
  await shows(page, '#rows', 'owner=somebody, team=<b>a</b>');
  await button(page, 'Show the last 100 lines');
  await shows(page, '#log', log);
  await examine(page, 'instance', '#log-form');
  await button(page, 'Remove label team');
  await lacks(page, '#labels', 'team');

  // A stop asks first.
  await button(page, 'Stop …');
  await shows(page, '#confirm', 'Stop late/ann?');
  await examine(page, 'confirm');
  await button(page, 'Keep it');
  await button(page, 'Stop …');
  await button(page, 'Stop it');
  await shows(page, '#facts', 'no longer exists');
  await close(page);
  await lacks(page, '#rows', 'late/ann');

  // The replica is restarted: what it knew is shown until it is back, and then what it knows now.
  await other('GET', 'app/late/bob');
  await shows(page, '#rows .ready', 'ready');
  await stopService(service);
  await state(page, 'lost');
  await shows(page, '#state', 'Next attempt in');
  await shows(page, '#rows', 'late/bob');
  await examine(page, 'lost');
  service = await startService(wanted, new URL(url).port);
  await reconnect(page);
  await state(page, 'live');
  if (survives) await shows(page, '#count', '2 instances: ');
  else await shows(page, '#count', 'There are no instances');

  await stopMany(page, other, examine, url, token);
  await page.close();
}

// With the keyboard alone.
async function stopMany(page, other, examine, url, token) {
  await page.evaluate(() => scrollTo(0, 0));
  const names = ['bob', 'cid', 'dan'];
  const made = await Promise.all(names.map(name => other('GET', `app/late/${name}`)));
  assert.deepEqual(made.map(it => it.status), [200, 200, 200]);
  await other('PATCH', 'app/late/bob', '{"team":"a"}');
  await shows(page, '#rows', 'team=a', AT_ONCE);
  await other('PATCH', 'app/late/cid', '{"team":"b"}');
  await page.reload();
  await state(page, 'live');
  for (const name of names) await shows(page, '#rows', `late/${name}`);

  // Not without a filter, and not with one that the service does not have.
  const hint = text => shows(page, '#many-note', text);
  await hint('choose a type, a status or a label');
  await page.focus('#stop-many');
  await page.keyboard.press('Enter');
  assert.equal(await page.$('dialog[open]'), null, 'nothing restricts it');
  await fill(page, '#by-text', 'late');
  await page.select('#by-type', 'late');
  await hint('empty the text');
  await fill(page, '#by-text', '');
  await fill(page, '#by-label', 'toString');
  await hint('nothing to stop');
  await fill(page, '#by-label', 'team');
  await shows(page, '#stop-many', 'Stop 2 instances …');
  await fill(page, '#by-label', 'team=a');
  await shows(page, '#stop-many', 'Stop 1 instance …');
  assert.equal(await page.$$eval('#rows tr', rows => rows.map(it => it.querySelector('button').textContent).join()), 'late/bob');

  await page.focus('#stop-many');
  await page.keyboard.press('Enter');
  await shows(page, '#confirm-title', 'Stop 1 instance?');
  await shows(page, '#confirm-note', 'late/bob.');
  await shows(page, '#confirm-curl', `curl -sS${token ? ' -H "Authorization: Bearer $TOKEN"' : ''} -X DELETE '${url}/instances?type=late&label=team%3Da'`);
  assert.equal(await focused(page), 'Keep them', 'what changes nothing has the focus');
  await page.keyboard.press('Enter');
  assert.equal(await focused(page), 'Stop 1 instance …', 'the focus returns');
  await fill(page, '#by-label', '');
  await page.focus('#stop-many');
  await page.keyboard.press('Enter');
  await shows(page, '#confirm-title', 'Stop 3 instances?');
  await other('GET', 'app/late/fay');
  await shows(page, '#confirm-title', 'Stop 4 instances?');
  await shows(page, '#confirm-note', 'late/bob, late/cid, late/dan, late/fay.');
  await examine(page, 'many');
  await page.keyboard.press('Tab');
  assert.equal(await focused(page), 'Stop them');
  await page.keyboard.press('Enter');
  await shows(page, '#many-said', '4 instances are being stopped.');
  await examine(page, 'stopped', '#filter');
  await lacks(page, '#rows', 'late/');
  await hint('nothing to stop');
  assert.match(await focused(page), /^Stop many …/, 'the focus is not lost');
  await page.select('#by-type', '');
  await lacks(page, '#many-said', 'stopped');
}
