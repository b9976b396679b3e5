// The search page: what is asked and found, its addresses, and which of its views is shown.
'use strict';

// excerpt removes the Markdown syntax from a passage, and begins shortly before the first match.
function excerpt(text, matcher) {
  const plain = text
    .replace(/^(```|~~~).*$/gm, '') // fences
    .replace(/^\|?[\s:|-]+\|?$/gm, '') // rules, and delimiter rows of tables
    .replace(/^\s*(?:[-*+]|\d{1,9}[.)])\s+(?:\[[ xX]\]\s+)?/gm, '') // items and tasks
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1') // links and pictures
    .replace(/\*\*|`|^#+\s|^>\s?/gm, '') // strong words, code, headings, quotes
    .replace(/(?<!\w)[*_](?=\S)(.+?)(?<=\S)[*_](?!\w)/g, '$1') // emphasis
    .replace(/\s*\|[\s|]*/g, ' · ') // cells of tables
    .replace(/\s+/g, ' ')
    .replace(/^ · | · $/g, '')
    .trim();
  const first = matcher ? plain.search(new RegExp(matcher.source, 'iu')) : 0;
  if (first < 160) return plain.slice(0, 400);
  return '… ' + plain.slice(plain.indexOf(' ', first - 80) + 1, first + 320);
}

// oldAddress returns the present form of an address of an older version, such as #q=…&doc=….
function oldAddress() {
  if (reads || !/^#(q|doc|request)=/.test(location.hash)) return;
  const p = new URLSearchParams(location.hash.slice(1));
  if (p.get('doc')) return readAddress(p.get('doc'), {q: p.get('q'), line: p.get('line')});
  return address({q: p.get('q'), request: p.get('request')});
}

// ---- searching

const pageSizes = [10, 30, 100];
let searching, timer, shown = '', size = pageSizes[0], waiting = false, folders;

function asked() { return {q: $('q').value.trim(), prefix: $('folder').value}; }

function onInput() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    size = pageSizes[0];
    history.replaceState(null, '', address(asked()));
    route();
  }, 120);
}

async function search(q, prefix, focus) {
  searching?.abort();
  const mine = searching = new AbortController();
  const pending = setTimeout(() => {
    $('results').setAttribute('aria-busy', 'true');
    say(h('span', {class: 'pending'}, q ? 'Searching…' : 'Loading the documents…'));
  }, 300);
  try {
    if (!q) await drawShelf(prefix, mine.signal);
    else {
      const response = await get(`search?limit=${size}&partial=1&q=${encodeURIComponent(q)}${prefix && `&prefix=${encodeURIComponent(prefix)}`}`, {signal: mine.signal, why: 'Searching needs a token.'});
      const answer = await response.json();
      if (mine === searching) drawHits(answer, response.headers.get('X-Correlation-ID'), focus);
    }
    if (mine === searching) waiting = false;
  } catch (fault) {
    if (fault.name === 'AbortError' || mine !== searching) return;
    shown = undefined;
    waiting = !(fault instanceof Fault) || fault.status >= 500;
    $('results').replaceChildren();
    const again = () => { shown = undefined; route(); };
    say(faultText(fault), h('button', {class: 'plain', type: 'button', onclick: again}, fault.status === 401 ? 'Sign in' : 'Try again'));
  } finally {
    clearTimeout(pending);
    if (mine === searching) $('results').removeAttribute('aria-busy');
  }
}

function say(count, follow = '') {
  $('count').replaceChildren(count);
  $('follow').replaceChildren(follow);
}

function drawHits(answer, id, focus) {
  const corrected = answer.corrected ? `Showing results for “${answer.corrected}”. ` : '';
  const n = answer.hits.length, isMore = n === size;
  const where = $('folder').value ? ` in ${$('folder').value}` : '';
  const found = n ? `${isMore ? 'Top ' : ''}${isMore ? n : plural(n, 'document')}${where} in ${ms(answer.took_ms)}` : `Nothing found for “${answer.query}”${where}. Try fewer or other words.`;
  say(corrected + found + (answer.degraded ? ', ranked by words only: the embeddings API does not respond' : ''),
    hasAdmin && !isClosed ? h('a', {href: address({request: id, q: answer.query, prefix: $('folder').value})}, 'How it was answered') : h('span', {class: 'mono'}, id ?? ''));
  const matcher = matcherOf(answer.corrected ?? answer.query);
  const next = pageSizes.find(other => other > size);
  $('results').replaceChildren(h('ol', {class: 'hits', 'aria-label': 'Results'}, ...answer.hits.map(hit =>
    h('li', null, h('a', {href: readAddress(hit.document, {q: answer.query, line: hit.line}, hit.url?.split('#')[1])},
      h('h2', null, ...marked(hit.title || hit.document, matcher)),
      h('div', {class: 'where'}, h('span', {class: 'path'}, hit.document), hit.heading && hit.heading !== hit.title ? ` — ${hit.heading}` : ''),
      h('p', null, ...marked(excerpt(hit.text, matcher), matcher)))))),
  isMore && next ? h('button', {class: 'more', type: 'button', onclick: () => { size = next; search(answer.query, $('folder').value, n); }}, 'More results') : '');
  if (focus) $('results').querySelectorAll('.hits a')[focus]?.focus();
}

// drawShelf lists the documents while the search box is empty.
async function drawShelf(prefix, signal) {
  const list = await (await get(`documents?limit=1000${prefix && `&prefix=${encodeURIComponent(prefix)}`}`, {signal, why: 'Reading these documents needs a token.'})).json();
  say(list.documents.length ? `${list.next_cursor ? 'The first ' : ''}${plural(list.documents.length, 'document')}${list.next_cursor ? ': search to find the others' : ''}` : '');
  const byFolder = new Map();
  for (const d of list.documents) {
    const folder = d.id.includes('/') ? d.id.slice(0, d.id.lastIndexOf('/')) : '';
    byFolder.set(folder, [...byFolder.get(folder) ?? [], d]);
  }
  if (!list.documents.length) {
    $('results').replaceChildren(h('div', {class: 'welcome'}, h('h2', null, 'No documents yet'), h('p', null, 'Put Markdown files into the folder of DOCS_DIR, or send one: ', h('code', null, 'curl -T install.md …/documents/guide/install.md'), '. They appear here by themselves.')));
    waiting = true;
    return;
  }
  const most = list.documents.length > 100 ? 8 : 100; // of a folder: the rest is on its page
  $('results').replaceChildren(h('div', {class: 'shelf'}, ...[...byFolder].map(([folder, documents]) => h('section', null, folder ? h('h2', null, h('a', {href: readAddress(folder) + '/'}, folder)) : '',
    h('ul', null, ...documents.slice(0, most).map(d => h('li', null, h('a', {href: readAddress(d.id)}, d.title || d.id))),
      documents.length > most ? h('li', null, h('a', {class: 'rest', href: readAddress(folder || documents[0].id) + (folder && '/')}, `and ${documents.length - most} more`)) : '')))));
  drawFolders(list.documents);
}

// drawFolders offers the folders at the top as filters.
function drawFolders(documents) {
  if (folders) return;
  const names = [...new Set(documents.filter(d => d.id.includes('/')).map(d => d.id.slice(0, d.id.indexOf('/') + 1)))].sort();
  const chosen = place().get('prefix') ?? '';
  if (chosen && !names.includes(chosen)) names.push(chosen);
  if (!chosen) folders = names;
  $('folder').replaceChildren(h('option', {value: ''}, 'all folders'), ...names.map(name => h('option', {value: name}, name)));
  $('folder').value = chosen;
  $('scope').hidden = !names.length;
}

async function loadFolders() {
  if (folders) return;
  try {
    drawFolders((await (await get('documents?limit=1000', {quiet: true})).json()).documents);
  } catch { /* the filter stays as it is */ }
}

// ---- the state of the service

let lastSize;

async function look() {
  drawState(await readiness());
  if (hasAdmin && !$('service').hidden) await metrics();
}

// drawState shows what the server says of itself, and searches again when it is back or has other documents.
function drawState(text) {
  $('checks').replaceChildren(...text.trim().split('\n').filter(Boolean).map(line => {
    const [name, ...rest] = line.split(' '), fine = rest[0]?.startsWith('ok');
    return h('li', null, h('span', {class: 'dot ' + (fine ? 'ok' : 'no'), 'aria-hidden': 'true'}), h('span', null, name, h('span', {class: fine ? 'muted' : 'fault'}, fine ? ` ok${rest[0].slice(2)} ${rest.slice(1).join(' ')}` : ` ${rest.join(' ')}`)));
  }));
  const size = text.match(/(\d+) documents, (\d+) chunks/);
  if (size) [$('documents').textContent, $('chunks').textContent] = [number(Number(size[1])), number(Number(size[2]))];
  $('left-out').textContent = text.match(/^index .*left out (.*)$/m)?.[1].replace(/^/, 'Left out: ') ?? '';
  const isNew = size && size[1] !== lastSize && lastSize !== undefined && !$('q').value.trim();
  if (size) lastSize = size[1];
  if (hasSearch && (waiting && text || isNew)) { shown = undefined; route(); }
}

// ---- views

function route() {
  const p = place(), q = p.get('q') ?? '', prefix = p.get('prefix') ?? '';
  if (p.get('request')) return void openRequest(p.get('request'));
  const isStatus = p.has('status') || !hasSearch;
  $('reader').hidden = true;
  $('finder').hidden = isStatus;
  $('service').hidden = !isStatus;
  $('main').classList.toggle('wide', isStatus);
  if (isStatus) {
    document.title = `Status – ${site}`;
    if (hasAdmin && isSigned()) drawCalls();
    return;
  }
  if (document.activeElement !== $('q')) $('q').value = q;
  document.title = q ? `${q} – ${site}` : site;
  const wanted = `${q} ${prefix}`;
  if (wanted === shown) return;
  shown = wanted;
  search(q, prefix);
}

async function startSearchPage() {
  await takeLinkedToken();
  const old = oldAddress();
  if (old?.includes('read/')) return location.replace(old);
  if (old) history.replaceState(null, '', old);
  addEventListener('popstate', () => { shown = undefined; route(); });
  addEventListener('hashchange', () => { if (location.hash.startsWith('#token=')) return location.reload(); const to = oldAddress(); if (to) location.replace(to); });
  $('q').addEventListener('input', onInput);
  $('folder').addEventListener('change', () => { history.replaceState(null, '', address(asked())); route(); });
  $('search').addEventListener('submit', event => {
    if ($('finder').hidden) return; // the form asks for the results
    event.preventDefault();
    $('results').querySelector('.hits a')?.click();
  });
  $('copy-connect').onclick = event => copy($('connect').textContent, event.currentTarget);
  if (!hasSearch) {
    $('search').hidden = $('hints').hidden = true;
    $('agents').textContent = 'This is ADMIN_ADDR. To search the documents, open ADDR.';
  }
  $('q').value = place().get('q') ?? '';
  const prefix = place().get('prefix');
  if (prefix) drawFolders([{id: prefix}]);
  drawClosed();
  $('service').classList.toggle('alone', !hasAdmin);
  route();
  if (hasSearch && place().get('q')) loadFolders();
  if (hasSearch && !place().size && matchMedia('(hover: hover)').matches) $('q').focus();
}

startSearchPage();
poll(look, () => waiting ? 1000 : 2000);
