// Takes the pictures of the README. pictures.sh starts it.
import { chromium } from 'playwright-core';

const [executablePath, url, token] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
const page = await browser.newPage({ viewport: { width: 1200, height: 760 }, colorScheme: 'light', locale: 'en-GB' });
page.setDefaultTimeout(15000);

// Requests of people and agents, so that the lists and plots have something to show.
const questions = ['restore a file', 'install', 'retention rules', 'agent offline', 'rotate the encryption key', 'exclude patterns'];
async function traffic() {
  for (const q of questions) await fetch(`${url}/search?q=${encodeURIComponent(q)}`);
  for (const name of ['search_docs', 'list_documents']) {
    const params = { name, arguments: name === 'search_docs' ? { query: 'restore a file' } : {} };
    await fetch(`${url}/mcp`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', 'MCP-Protocol-Version': '2025-06-18' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }),
    });
  }
}

const picture = name => page.screenshot({ path: `pictures/${name}.png`, animations: 'disabled' });

await traffic();
await page.goto(`${url}/#token=${token}`);
await page.waitForFunction(() => location.hash === '');

await page.locator('#q').fill('restore a file');
await page.locator('.hits a').first().waitFor();
await page.waitForTimeout(500);
await picture('search');

await page.locator('.hits a').first().click();
await page.locator('article h1').first().waitFor();
await page.waitForTimeout(1500); // it scrolls to what was found
await picture('document');

// A search that had to wait for a busy machine shows one bar and nothing else: take one that did not.
for (let attempt = 0; attempt < 20; attempt++) {
  await page.goto(`${url}/?q=restore+a+file`);
  await page.getByText('How it was answered').first().click();
  await page.locator('#reasons-title').waitFor();
  const took = await page.locator('.waterfall tbody tr').first().locator('td').last().textContent();
  if (parseFloat(took) < 2) break;
}
await page.setViewportSize({ width: 1200, height: 1000 });
await picture('waterfall');
await page.setViewportSize({ width: 1200, height: 760 });

await page.goto(`${url}/?status`);
for (let second = 0; second < 30; second++) { // the plots need some samples
  await traffic();
  await page.waitForTimeout(1000);
}
await picture('status');
await browser.close();
