// What a reader does with the page, in a real browser. run.sh starts it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const [executablePath, open, main, admin] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
let failed = 0;

// step runs what it is given on a fresh page and fails if the page logged anything, threw, or asked elsewhere. refused is how many
// answers of 401 belong to it: Chromium logs each.
async function step(name, url, refused, run, options = {}) {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(15000);
  const troubles = [];
  let seen = 0;
  page.on('pageerror', error => troubles.push(`threw ${error}`));
  page.on('console', message => message.text().includes('status of 401') ? seen++ : troubles.push(`${message.type()}: ${message.text()}`));
  page.on('request', request => request.url().startsWith(url) || request.url().startsWith('data:') || troubles.push(`asked ${request.url()}`));
  try {
    const response = await page.goto(url);
    assert.match(response.headers()['content-security-policy'], /default-src 'none'/);
    await run(page);
    assert.deepEqual(troubles, []);
    assert.equal(seen, refused, 'answers of 401');
    console.log(`ok    ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}\n${error.stack}\n${troubles.join('\n')}`);
  }
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name.replaceAll(' ', '-')}.png` });
  await page.close();
}

// accessible runs axe on what is shown: names, roles, contrast, focus. The debugger may evaluate what the page's policy may not.
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map(v => `${v.id}: ${v.help}: ${v.nodes[0].html}`), []);
}

const count = page => page.locator('#count');
const focused = page => page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);

async function giveToken(page, token) {
  await page.fill('#token', token);
  await page.keyboard.press('Enter');
}

await step('shows the documents before anything is asked', open, 0, async page => {
  await page.waitForSelector('.shelf a');
  assert.match(await count(page).textContent(), /^\d+ documents$/);
  assert.equal(await focused(page), 'q');
  await page.getByText('ready', { exact: true }).waitFor();
  assert.match(await page.locator('#documents').textContent(), /^\d+$/);
  assert.equal(await page.locator('#checks li').count(), await page.locator('#checks .dot.ok').count());
});

await step('searches as you type and marks what was found', open, 0, async page => {
  await page.locator('#q').pressSequentially('restoring files');
  await page.locator('.hits mark', { hasText: /^restore/i }).first().waitFor(); // a variant of the word
  assert.match(await count(page).textContent(), /documents? in [\d.]+ ms/);
  assert.equal(await page.locator('#count').getAttribute('aria-live'), 'polite');
  await page.locator('#q').fill('zxqvwk');
  await page.getByText('Nothing found for “zxqvwk”').waitFor();
  assert.equal(await page.locator('.hits a').count(), 0);
});

await step('is worked by keyboard alone', open, 0, async page => {
  await page.waitForSelector('.shelf a');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('/');
  assert.equal(await focused(page), 'q');
  await page.keyboard.type('retention rules');
  await page.waitForSelector('.hits a');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  const second = page.locator('.hits a').nth(1);
  assert.ok(await second.evaluate(a => a === document.activeElement));
  const target = new URLSearchParams((await second.getAttribute('href')).slice(1));
  await page.keyboard.press('Enter');
  await page.waitForSelector('#reader .sheet');
  assert.equal(await page.locator('#reader .id').textContent(), target.get('doc'));
  assert.equal(await focused(page), 'sheet');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#reader', { state: 'hidden' });
  await page.waitForFunction(() => document.querySelectorAll('.hits a')[1] === document.activeElement); // the focus is back where it was
  await page.keyboard.press('Escape');
  assert.equal(await focused(page), 'q');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#reader .sheet');
  await page.goBack();
  await page.waitForSelector('.hits a');
});

await step('opens a document at the line that was found', open, 0, async page => {
  await page.fill('#q', 'prune lock vault thaw');
  const hit = page.locator('.hits a').first();
  const line = Number(new URLSearchParams((await hit.getAttribute('href')).slice(1)).get('line'));
  await hit.click();
  const here = page.locator('#reader .here');
  await here.waitFor();
  assert.ok(Number(await here.getAttribute('data-line')) <= line);
  assert.ok(await here.evaluate(e => e.getBoundingClientRect().top < innerHeight && e.getBoundingClientRect().bottom > 0), 'it is in sight');
  assert.ok(await page.locator('#reader mark').count() > 0);
  await page.getByRole('button', { name: 'Source' }).click();
  assert.equal(Number(await page.locator('#reader .here').getAttribute('data-line')), line);
});

await step('shows a hostile document as text', open, 0, async page => {
  await page.fill('#q', 'hostile walrus');
  await page.locator('.hits a', { hasText: 'hostile.md' }).click();
  await page.waitForSelector('#reader .prose');
  assert.match(await page.locator('#reader .prose').textContent(), /<script>window.stolen = 1<\/script>/);
  assert.equal(await page.locator('#reader .prose :is(img, script, iframe, b, a)').count(), 0);
  assert.equal(await page.evaluate(() => window.stolen), undefined);
});

await step('refuses a wrong token and draws a waterfall with the right one', open, 2, async page => {
  await page.fill('#q', 'encryption keys');
  await page.getByText('How it was answered').click();
  await page.waitForSelector('#ask[open]');
  assert.equal(await focused(page), 'token');
  await giveToken(page, 'wrong');
  await page.getByText('That token was not accepted').waitFor();
  assert.equal(await focused(page), 'token');
  await giveToken(page, 'the-admin-token');
  await page.waitForSelector('.waterfall tbody tr');
  assert.ok(await page.locator('.waterfall tbody tr').count() >= 3);
  assert.ok(await page.locator('.waterfall rect.store').evaluate(r => r.getBoundingClientRect().width > 0));
  await page.waitForSelector('.calls a');
  await page.getByRole('button', { name: 'Slowest' }).click();
  assert.equal(await page.getByRole('button', { name: 'Slowest' }).getAttribute('aria-pressed'), 'true');
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  assert.ok(!kept.includes('the-admin-token'), 'the token is in memory only');
  await page.getByRole('button', { name: 'Forget the token' }).click();
  await page.waitForSelector('#unlock');
});

await step('plots what /metrics says', open, 0, async page => {
  await page.waitForSelector('.plot');
  for (const q of ['agents', 'alerts', 'webhooks']) {
    await page.fill('#q', q);
    await page.waitForTimeout(400);
  }
  await page.waitForFunction(() => /[1-9]/.test(document.querySelector('.plot b').textContent) && document.querySelector('.plot path:not(.area)').getAttribute('d').includes('L'));
  assert.equal(await page.locator('.plot').count(), 3);
  assert.match(await page.locator('.plot svg').last().getAttribute('aria-label'), /Latency, 99th percentile over the last minutes: now [\d.]+ ms/);
  assert.match(await page.locator('#since').textContent(), /^Since its start: [\d,]+ requests, 0 failed/);
});

await step('fits a phone', open, 0, async page => {
  await page.fill('#q', 'install');
  await page.waitForSelector('.hits a');
  const tooWide = () => page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.equal(await tooWide(), false);
  await page.locator('.hits a').first().click();
  await page.waitForSelector('#reader .sheet');
  assert.equal(await tooWide(), false);
}, { viewport: { width: 390, height: 844 } });

await step('asks for API_TOKEN where searching needs one', main, 2, async page => {
  await page.waitForSelector('#ask[open]');
  await giveToken(page, 'wrong');
  await page.getByText('That token was not accepted').waitFor();
  await giveToken(page, 'the-api-token');
  await page.waitForSelector('.shelf a');
  await page.fill('#q', 'restore');
  await page.waitForSelector('.hits a');
  await page.getByText('ADMIN_ADDR serves metrics and recent requests').waitFor();
  assert.equal(await page.locator('#requests').isVisible(), false);
});

await step('says so when the reader has no token', main, 1, async page => {
  await page.waitForSelector('#ask[open]');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#ask', { state: 'hidden' });
  await page.getByRole('button', { name: 'Enter a token' }).waitFor();
});

await step('shows requests on the admin listener', admin, 1, async page => {
  assert.equal(await page.locator('#search').isVisible(), false);
  await page.getByRole('button', { name: 'Show requests' }).click();
  await giveToken(page, 'the-admin-token');
  await page.locator('.calls a', { hasText: 'GET /search' }).first().click();
  await page.waitForSelector('.waterfall tbody tr');
  await page.keyboard.press('Escape');
  await page.waitForSelector('.calls a');
  await page.waitForSelector('.plot');
});

for (const colorScheme of ['light', 'dark']) {
  await step(`is accessible in ${colorScheme}`, open, 1, async page => {
    await page.waitForSelector('.shelf a');
    await page.waitForSelector('.plot');
    await accessible(page);
    await page.fill('#q', 'restore files');
    await page.waitForSelector('.hits a');
    await accessible(page);
    await page.locator('.hits a').first().click();
    await page.waitForSelector('#reader .prose');
    await accessible(page);
    await page.keyboard.press('Escape');
    await page.getByText('How it was answered').click();
    await page.waitForSelector('#ask[open]');
    await accessible(page);
    await giveToken(page, 'the-admin-token');
    await page.waitForSelector('.waterfall');
    await page.waitForSelector('.calls a');
    await accessible(page);
  }, { colorScheme });
}

{ // the policy itself: outside step, because the browser logs what it refuses
  const page = await browser.newPage();
  await page.goto(open);
  const refused = await page.evaluate(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } });
  if (!refused) { failed++; console.log('FAIL  markup from a string is refused'); } else console.log('ok    markup from a string is refused');
  await page.close();
}

await step('takes the token of the greeting out of the address', open, 0, async page => {
  for (const from of [open, 'about:blank']) { // in an open page, and in a new one
    await page.goto(from);
    await page.goto(`${open}/#token=the-admin-token`);
    await page.waitForFunction(() => location.hash === '');
    await page.locator('.calls a').first().waitFor();
  }
});

await browser.close();
process.exit(failed ? 1 : 0);
