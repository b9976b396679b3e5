// The script of all pages. Data from the server is only ever set as text: trusted types forbid everything else.
'use strict';

const {serves, root} = document.documentElement.dataset;
const hasSearch = serves.includes('search'), hasAdmin = serves.includes('admin');
const isClosed = 'closed' in document.documentElement.dataset; // there is no ADMIN_TOKEN, so nobody may see requests
const reads = document.body.classList.contains('reads');
const site = document.querySelector('.site span').textContent;
const $ = id => document.getElementById(id);

// h creates an element. Children are nodes or text. Nothing is ever parsed as HTML.
function h(name, attributes, ...children) {
  const svg = ['svg', 'path', 'line', 'rect'].includes(name);
  const element = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== undefined && child !== ''));
  return element;
}
const number = (n, digits = 0) => n.toLocaleString('en', {maximumFractionDigits: digits});
const plural = (n, one) => `${number(n)} ${one}${n === 1 ? '' : 's'}`;
const ms = n => n >= 1000 ? `${number(n / 1000, 2)} s` : n >= 10 ? `${number(n)} ms` : `${number(n, 2)} ms`;

// ---- requests to the server

class Fault extends Error {
  constructor(status, message, id) { super(message); this.status = status; this.id = id; }
}

let asking; // promise of a sign-in while the dialog is open

// get fetches a path below the root. If a token is needed it opens the dialog to sign in, unless quiet.
async function get(path, {signal, quiet, why, accept = 'application/json'} = {}) {
  for (let asked = false; ;) {
    const response = await fetch(root + path, {headers: {Accept: accept}, signal, cache: 'no-cache'});
    if (response.ok) return response;
    const body = await response.json().catch(() => ({}));
    const fault = new Fault(response.status, body.error?.message ?? `the server answered ${response.status}`, response.headers.get('X-Correlation-ID'));
    const tooLittle = response.status === 403 && fault.message.startsWith('API_TOKEN');
    if (quiet || response.status !== 401 && !tooLittle) throw fault;
    const refused = tooLittle ? 'This needs ADMIN_TOKEN. The token that you signed in with is for searching only.' : why;
    if (asked && !tooLittle || !await askToken(refused, tooLittle)) throw fault;
    asked = true;
  }
}

// askToken shows the dialog until the server accepts a token. It returns false if the reader cancels.
function askToken(why, wrong) {
  const say = (text, isWrong) => {
    $('ask-why').textContent = text;
    $('ask-why').classList.toggle('fault', isWrong);
    $('token').setAttribute('aria-invalid', isWrong);
  };
  say(why, Boolean(wrong));
  asking ??= new Promise(resolve => {
    const before = document.activeElement;
    const done = given => {
      asking = undefined;
      $('ask').close();
      $('token').value = '';
      before?.focus?.();
      resolve(given);
    };
    $('ask-form').onsubmit = async event => {
      event.preventDefault();
      try {
        const response = await signIn($('token').value.trim());
        if (response.ok) { showSigned(); return done(true); }
        const body = await response.json().catch(() => ({}));
        say(response.status === 401 ? 'That token was not accepted. Check it and try again.' : body.error?.message ?? 'The server does not respond.', true);
      } catch { say('The server does not respond.', true); }
      $('token').select();
    };
    $('ask-no').onclick = () => done(false);
    $('ask').oncancel = event => { event.preventDefault(); done(false); };
    $('ask').showModal();
    $('token').focus();
  });
  return asking;
}

// takeLinkedToken signs in with the token of an address #token=…, which the program prints when it starts on a terminal.
async function takeLinkedToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return;
  history.replaceState(null, '', location.pathname + location.search);
  try {
    if ((await signIn(token)).ok) showSigned();
  } catch { /* the page asks for a token when it needs one */ }
}

function signIn(token) {
  return fetch(`${root}signin`, {method: 'POST', body: new URLSearchParams({token}), headers: {Accept: 'application/json'}});
}

// showSigned offers to sign out instead of in.
function showSigned() {
  document.documentElement.dataset.signed = 'yes';
  $('sign-in').hidden = true;
  if (document.querySelector('.tools form')) return;
  $('sign-in').after(h('form', {action: root + 'signout', method: 'post'}, h('button', {class: 'plain', id: 'sign-out'}, 'Sign out')));
}

const isSigned = () => !['', 'never'].includes(document.documentElement.dataset.signed);
$('sign-in').hidden = document.documentElement.dataset.signed !== '';
$('sign-in').onclick = async () => { if (await askToken('With API_TOKEN you search and read, with ADMIN_TOKEN you also see requests.')) location.reload(); };

function faultText(fault) {
  return h('span', {class: 'fault'}, fault instanceof Fault ? fault.message : 'The server does not respond.', fault.id ? h('span', {class: 'muted'}, ` (${fault.id})`) : '');
}

// copy copies text and says so on a button for a moment.
async function copy(text, button, done) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    if (done) button.textContent = done;
    button.classList.add('copied');
  } catch { if (done) button.textContent = 'Not allowed'; }
  setTimeout(() => { if (done) button.textContent = before; button.classList.remove('copied'); }, 1500);
}

// matcherOf returns a pattern that marks the words of a query. It matches the beginning of a word, because the server also finds
// variants of it. In scripts without spaces it matches pairs of characters.
function matcherOf(query) {
  const parts = [];
  for (const [word] of query.matchAll(/[\p{L}\p{M}\p{N}]+/gu)) {
    if (/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]/u.test(word)) {
      const letters = [...word];
      parts.push(...letters.length === 1 ? letters : letters.slice(1).map((letter, i) => letters[i] + letter));
      continue;
    }
    const stem = word.length > 4 ? word.replace(/(ations?|ings?|ions?|ers?|ed|es|ly|s|e|y)$/iu, '') : word;
    const begin = stem.length < 3 ? word : stem;
    if (!/^(a|an|and|are|as|at|be|by|for|how|if|in|is|it|of|on|or|the|to|what|with|do|does|i)$/i.test(word)) parts.push(`(?<![\\p{L}\\p{N}])${begin}${begin.length < 3 ? '(?![\\p{L}\\p{N}])' : '[\\p{L}\\p{M}\\p{N}]*'}`);
  }
  return parts.length ? new RegExp(parts.join('|'), 'giu') : undefined;
}

function marked(text, matcher) {
  if (!matcher) return [text];
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(matcher)) {
    nodes.push(text.slice(at, match.index), h('mark', null, match[0]));
    at = match.index + match[0].length;
  }
  nodes.push(text.slice(at));
  return nodes.filter(node => node !== '');
}

// excerpt removes the Markdown syntax from a passage, and begins shortly before the first match.
function excerpt(text, matcher) {
  const plain = text.replace(/^(```|~~~).*$/gm, '').replace(/^\|?[\s:|-]+\|?$/gm, '').replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/\*\*|`|^#+\s|^>\s?/gm, '').replace(/(?<!\w)[*_](?=\S)(.+?)(?<=\S)[*_](?!\w)/g, '$1').replace(/\s*\|[\s|]*/g, ' · ').replace(/\s+/g, ' ').replace(/^ · | · $/g, '').trim();
  const first = matcher ? plain.search(new RegExp(matcher.source, 'iu')) : 0;
  if (first < 160) return plain.slice(0, 400);
  return '… ' + plain.slice(plain.indexOf(' ', first - 80) + 1, first + 320);
}

function highlight(root, matcher) {
  if (!matcher) return;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) node.replaceWith(...marked(node.data, matcher));
}

// ---- the address: ?q=…&prefix=…, ?request=… or ?status

const place = () => new URLSearchParams(location.search);
function address(values) {
  const p = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value) p.set(key, value);
  return `${root}?${p.toString().replaceAll('%2F', '/')}`;
}
const readAddress = (id, values = {}, slug = '') => {
  const p = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value) p.set(key, value);
  const query = p.toString();
  return `${root}read/${id.split('/').map(encodeURIComponent).join('/')}${query && `?${query}`}${slug && `#${slug}`}`;
};

// oldAddress returns the address that one of former versions, such as #q=…&doc=…, stands for now.
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
    hasAdmin && !isClosed ? h('a', {href: address({request: id, q: answer.query})}, 'How it was answered') : h('span', {class: 'mono'}, id ?? ''));
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

// ---- the status of the service

async function poll() {
  if (!document.hidden) {
    await readiness();
    if (!reads && hasAdmin && !$('service').hidden) await metrics();
  }
  setTimeout(poll, reads ? 10000 : waiting ? 1000 : 2000);
}

async function readiness() {
  let text = '', ok = false;
  try {
    const response = await fetch(`${root}readyz?verbose`, {cache: 'no-store'});
    ok = response.ok;
    text = await response.text();
  } catch { /* shown below */ }
  const [mark, words] = $('health').children;
  const reading = text.match(/: (\d+)\/(\d+) files read/);
  const state = !text ? 'Not responding' : reading ? `Still reading ${number(Number(reading[1]))} of ${number(Number(reading[2]))}` : ok ? 'Status' : 'Not ready';
  if (words.textContent !== state) words.textContent = state;
  mark.className = `dot ${!text ? 'no' : reading ? 'wait' : ok ? 'ok' : 'no'}`;
  mark.title = ok ? 'ready' : 'not ready';
  if (reads) return;
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

let lastSize;

const span = 150; // number of samples to keep: five minutes
const samples = [];
const plots = {
  rate: {title: 'Requests', unit: '/s', values: []},
  errors: {title: 'Failed', unit: '/s', values: [], bad: true},
  p99: {title: 'p99 latency', unit: 'ms', values: []},
};

async function metrics() {
  let text;
  try {
    const response = await fetch(root + 'metrics?name[]=http_server_request_duration_seconds', {cache: 'no-store', headers: {Accept: 'text/plain'}});
    if (!response.ok) throw new Fault(response.status, '');
    text = await response.text();
  } catch { return; }
  const sample = {at: performance.now(), count: 0, failed: 0, buckets: new Map()};
  for (const [, suffix, labels, value] of text.matchAll(/^http_server_request_duration_seconds_(bucket|count)\{(.*)\} (\S+)$/gm)) {
    if (/http_route="\/(debug\/|metrics|livez|readyz|healthz|\{\$\})/.test(labels)) continue; // monitoring, which includes this page
    if (suffix === 'count') {
      sample.count += Number(value);
      if (/status_code="5/.test(labels)) sample.failed += Number(value);
    } else {
      const le = Number(labels.match(/le="([^"]+)"/)[1].replace('+Inf', 'Infinity'));
      sample.buckets.set(le, (sample.buckets.get(le) ?? 0) + Number(value));
    }
  }
  const before = samples.at(-1);
  if (before && sample.count < before.count) samples.length = 0; // the server was restarted
  samples.push(sample);
  if (samples.length > span + 15) samples.shift();
  if (calledFor && (!before || sample.count !== before.count)) drawCalls();
  drawPlots(sample);
}

function drawPlots(now) {
  const recent = samples.at(-6) ?? samples[0], longer = samples.at(-16) ?? samples[0];
  if (samples.length > 1) {
    const seconds = (now.at - recent.at) / 1000;
    push(plots.rate, (now.count - recent.count) / seconds);
    push(plots.errors, (now.failed - recent.failed) / seconds);
    push(plots.p99, quantile(.99, now, longer));
  }
  for (const plot of Object.values(plots)) draw(plot);
  const overall = quantile(.99, now, {buckets: new Map()});
  $('since').textContent = now.count ? `Since its start: ${plural(now.count, 'request')}, ${number(now.failed)} failed, p99 latency ${ms(overall)}. Probes, /metrics and /debug are not counted.` : 'No requests since its start.';
}

function push(plot, value) {
  plot.values.push(value);
  if (plot.values.length > span) plot.values.shift();
}

// quantile returns milliseconds. Like Prometheus' histogram_quantile it interpolates within a bucket.
function quantile(q, now, before) {
  const bounds = [...now.buckets.keys()].sort((a, b) => a - b);
  const count = le => now.buckets.get(le) - (before.buckets.get(le) ?? 0);
  const rank = q * count(Infinity);
  if (!(rank > 0)) return NaN;
  let low = 0, below = 0;
  for (const le of bounds) {
    if (count(le) >= rank) return 1000 * (le === Infinity ? low : low + (le - low) * (rank - below) / (count(le) - below));
    [low, below] = [le, count(le)];
  }
  return NaN;
}

function draw(plot) {
  if (!plot.figure) {
    plot.now = h('b');
    plot.most = h('span');
    plot.from = h('span');
    plot.line = h('path');
    plot.area = h('path', {class: 'area'});
    plot.svg = h('svg', {viewBox: `0 0 ${span - 1} 50`, preserveAspectRatio: 'none', role: 'img'}, h('line', {x1: 0, x2: span - 1, y1: 50, y2: 50}), plot.area, plot.line);
    plot.figure = h('figure', {class: 'plot'}, h('figcaption', null, plot.title, plot.now), plot.svg, h('div', {class: 'scale', 'aria-hidden': 'true'}, plot.from, plot.most, h('span', null, 'now')));
    $('plots').append(plot.figure);
  }
  const known = plot.values.filter(Number.isFinite), last = plot.values.at(-1);
  const show = value => plot.unit === 'ms' ? ms(value) : `${number(value, value < 10 ? 1 : 0)} ${plot.unit}`;
  const most = Math.max(...known, plot.unit === 'ms' ? 1 : .5);
  plot.now.textContent = Number.isFinite(last) ? show(last) : plot.values.length ? 'no requests' : 'collecting…';
  plot.now.classList.toggle('muted', !Number.isFinite(last));
  plot.most.textContent = known.length ? `up to ${show(Math.max(...known))}` : '';
  plot.figure.classList.toggle('bad', Boolean(plot.bad && Math.max(0, ...known) > 0));
  plot.svg.setAttribute('aria-label', `${plot.title} over the last minutes: now ${plot.now.textContent}${known.length ? `, ${plot.most.textContent}` : ''}`);
  const shown = Math.max(plot.values.length, 30);
  plot.from.textContent = shown > 30 ? `${number(shown / 30, 1)} min ago` : '1 min ago';
  let line = '', area = '', open, previous;
  plot.values.forEach((value, i) => {
    const x = (shown - plot.values.length + i) * (span - 1) / (shown - 1);
    if (!Number.isFinite(value)) { // a gap: no requests
      if (open !== undefined) area += `L${previous} 50L${open} 50Z`;
      open = undefined;
      return;
    }
    const y = (50 - 46 * value / most).toFixed(1);
    line += `${open === undefined ? 'M' : 'L'}${x} ${y}`;
    area += `${open === undefined ? 'M' : 'L'}${x} ${y}`;
    open ??= x;
    previous = x;
  });
  if (open !== undefined) area += `L${span - 1} 50L${open} 50Z`;
  plot.line.setAttribute('d', line);
  plot.area.setAttribute('d', area);
}

// ---- recent requests and their waterfalls

let kind = 'recent';
const kinds = {recent: 'Recent', slowest: 'Slowest', failed: 'Failed', in_flight: 'In flight'};

// calledFor says that the list has been shown: it is drawn again when there are new requests.
let calledFor = false;

function drawClosed(fault) {
  calledFor = false;
  if (!hasAdmin) {
    $('plots').replaceChildren(h('p', {class: 'small muted'}, 'ADMIN_ADDR serves metrics and recent requests, on a page like this one.'));
    $('requests').hidden = true;
    return;
  }
  if (isClosed) {
    $('calls').replaceChildren(h('p', {class: 'small muted'}, 'Set ADMIN_TOKEN and start again to see recent requests here.'));
    return;
  }
  $('calls').replaceChildren(h('p', {class: 'small muted'}, fault ? faultText(fault) : 'With ADMIN_TOKEN, this lists recent requests and shows where their time went.'), h('button', {type: 'button', id: 'unlock', onclick: () => drawCalls(true)}, 'Show requests'));
}

async function drawCalls(mayAsk) {
  let lists;
  try {
    lists = await (await get('debug/requests?format=json', {quiet: !mayAsk, why: 'Recent requests need ADMIN_TOKEN.'})).json();
  } catch (fault) {
    if (mayAsk || fault.status === 401 || fault.status === 403) drawClosed(fault.status === 401 ? undefined : fault);
    return;
  }
  calledFor = true;
  const list = () => lists[kind].filter(call => !call.name.includes(' /debug/requests')).slice(0, 20); // requests of this page
  const now = place().get('request');
  const show = () => {
    for (const button of buttons.children) button.setAttribute('aria-pressed', String(button.dataset.kind === kind));
    const shown = list(), most = Math.max(...shown.map(call => call.status ? call.took_ms : 0)); // without jobs, which may take much longer
    calls.replaceChildren(...shown.map(call => h('li', null, h('a', {href: address({request: call.correlation_id, q: place().get('q')}), 'aria-current': call.correlation_id === now && 'true'},
      h('span', {class: 'name'}, call.name), h('span', {class: 'took'}, ms(call.took_ms)), much(Math.min(call.took_ms / most, 1)),
      h('span', {class: 'when'}, new Date(call.started).toLocaleTimeString('en-GB')), h('span', {class: 'about'}, Object.entries(call.attributes ?? {}).map(([key, value]) => key === 'error' ? value : `${key} ${value}`).join(', ')), h('span', {class: call.error || call.status >= 400 ? 'state fault' : 'state'}, [call.status || '', call.error && call.error !== String(call.status) ? call.error : '', call.stage ?? ''].filter(Boolean).join(' ') || 'ok')))));
    if (!calls.children.length) calls.append(h('li', {class: 'muted'}, 'None.'));
  };
  const buttons = h('div', {class: 'kinds', role: 'group', 'aria-label': 'Kind of requests'}, ...Object.entries(kinds).map(([key, title]) => h('button', {type: 'button', 'data-kind': key, onclick: () => { kind = key; show(); }}, title)));
  const calls = h('ul', {class: 'calls', 'aria-labelledby': 'requests-title'});
  show();
  const held = $('calls').contains(document.activeElement) ? document.activeElement : undefined, scrolled = $('calls').querySelector('.calls')?.scrollTop ?? 0;
  $('calls').replaceChildren(buttons, calls);
  calls.scrollTop = scrolled;
  if (held) ([...$('calls').querySelectorAll('a, button')].find(e => held.dataset.kind ? e.dataset.kind === held.dataset.kind : e.href && e.href === held.href) ?? $('requests-title')).focus({preventScroll: true});
}

// much draws a thin bar: the time relative to the slowest request in the list.
function much(share) {
  const bar = h('span');
  bar.style.width = `${100 * share}%`;
  return h('span', {class: 'much', 'aria-hidden': 'true'}, bar);
}

async function openRequest(id) {
  let found;
  try {
    found = await (await get(`debug/requests/${encodeURIComponent(id)}?format=json`, {why: 'The waterfall of a request needs ADMIN_TOKEN.'})).json();
  } catch (fault) {
    return showReader(bar(id), h('div', {class: 'sheet', tabindex: '-1'}, faultText(fault)));
  }
  if (place().get('request') !== id) return;
  showReader(bar(id), ...found.map(waterfall));
  document.title = `${found[0].name} – ${site}`;
  scrollTo({top: 0, behavior: 'instant'});
  $('reader').querySelector('.sheet').focus({preventScroll: true});
}

function bar(id) {
  const q = place().get('q');
  return h('div', {class: 'bar'}, h('a', {href: q ? address({q}) : `${root}?status`}, q ? '← Results' : '← Requests'), h('span', {class: 'id mono'}, id));
}

function showReader(...children) {
  $('reader').replaceChildren(...children);
  $('reader').hidden = false;
  $('finder').hidden = $('service').hidden = true;
}

function waterfall(call) {
  const outcome = [call.status || '', call.error && call.error !== String(call.status) ? call.error : ''].filter(Boolean).join(' ') || (call.stage ? `in ${call.stage}` : 'ok');
  const facts = {Started: new Date(call.started).toLocaleString('en-GB'), Trace: call.trace_id, 'Trace kept': call.kept || 'no', ...call.attributes};
  const row = (name, depth, start, took, failed, attributes = {}) => {
    const total = Math.max(call.took_ms, .001), left = Math.min(100 * start / total, 99.5), width = Math.max(Math.min(100 * took / total, 100 - left), .5);
    const type = failed ? 'failed' : name.startsWith('embeddings') ? 'embeddings' : attributes['db.query.summary'] ? 'store' : '';
    const notes = Object.entries(attributes).filter(([, value]) => !name.includes(String(value))).map(([key, value]) => h('small', null, `${key} = ${value}`));
    const title = h('th', {scope: 'row'}, name, ...notes, failed ? h('small', {class: 'fault'}, `error.type = ${failed}`) : '');
    title.style.paddingLeft = `${depth * .9}rem`;
    return h('tr', null, title, h('td', {'aria-hidden': 'true'}, h('svg', null, h('rect', {class: 'track', x: 0, y: '45%', width: '100%', height: 1}), h('rect', {class: type, x: `${left}%`, y: '20%', width: `${width}%`, height: '60%'}))), h('td', {class: 'ms'}, ms(took)));
  };
  return h('section', {class: 'sheet', tabindex: '-1', 'aria-label': `${call.name} ${outcome}`},
    h('h2', null, call.name, ' ', h('span', {class: call.error || call.status >= 400 ? 'fault' : 'muted'}, outcome)),
    h('dl', {class: 'facts'}, ...Object.entries(facts).flatMap(([key, value]) => [h('dt', null, key), h('dd', {class: key === 'Trace' ? 'mono' : undefined}, String(value))])),
    h('table', {class: 'waterfall'}, h('thead', null, h('tr', null, h('th', {scope: 'col'}, 'Stage'), h('th', {scope: 'col'}, h('i', {class: 'unseen'}, 'When'), h('span', {'aria-hidden': 'true'}, h('b', null, '0'), h('b', null, ms(call.took_ms / 2)), h('b', null, ms(call.took_ms)))), h('th', {scope: 'col', class: 'ms'}, 'Took'))),
      h('tbody', null, row(call.name, 0, 0, call.took_ms, call.error), ...(call.stages ?? []).map(s => row(s.name, s.depth, s.start_ms, s.took_ms, s.error, s.attributes)))));
}

// ---- navigation of the search page

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

// ---- the page of a document

function startReadPage() {
  const article = $('document');
  for (const pre of article.querySelectorAll('pre:not(.source)')) {
    const button = h('button', {type: 'button', onclick: () => copy(pre.textContent, button, 'Copied')}, 'Copy');
    const frame = h('div', {class: 'code'});
    pre.replaceWith(frame);
    frame.append(pre, button);
  }
  for (const anchor of article.querySelectorAll('.anchor')) anchor.addEventListener('click', () => copy(anchor.href, anchor));
  const matcher = matcherOf(place().get('q') ?? '');
  if (matcher && place().get('q')) highlight(article, matcher);
  if (matchMedia('(max-width: 78rem)').matches) document.querySelector('details.contents')?.removeAttribute('open');
  addEventListener('hashchange', showLine);
  showLine();
  const current = document.querySelector('.tree [aria-current]'), tree = $('tree');
  if (current && tree.scrollHeight > tree.clientHeight) tree.scrollTop = current.offsetTop - tree.clientHeight / 3;
  const target = article.querySelector('[data-marked]');
  if (target && !/^#L\d/.test(location.hash)) target.scrollIntoView({behavior: 'instant', block: 'center'});
  followContents(article);
}

// showLine marks the block that has the line of an address such as #L12.
function showLine() {
  const line = Number(location.hash.match(/^#L(\d+)$/)?.[1]);
  if (!line) return;
  const blocks = [...$('document').querySelectorAll('[data-line]')].filter(e => Number(e.dataset.line) <= line);
  const last = Math.max(...blocks.map(e => Number(e.dataset.line)));
  const found = blocks.filter(e => Number(e.dataset.line) === last).at(-1);
  if (!found) return;
  for (const old of $('document').querySelectorAll('[data-marked]')) old.removeAttribute('data-marked');
  found.dataset.marked = line;
  found.scrollIntoView({behavior: 'instant', block: 'center'});
}

// followContents marks the heading that is being read.
function followContents(article) {
  const links = new Map([...document.querySelectorAll('.contents a')].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
  if (!links.size) return;
  const headings = [...article.querySelectorAll('[id]')].filter(e => links.has(e.id));
  const mark = () => {
    const current = headings.findLast(e => e.getBoundingClientRect().top < 140) ?? headings[0];
    for (const [id, a] of links) id === current?.id ? a.setAttribute('aria-current', 'true') : a.removeAttribute('aria-current');
  };
  addEventListener('scroll', mark, {passive: true});
  mark();
}

// ---- keys

addEventListener('keydown', event => {
  if ($('ask').open || event.altKey || event.isComposing) return;
  const here = document.activeElement, isCommand = event.ctrlKey || event.metaKey;
  const isTyping = here !== $('q') && /^(INPUT|TEXTAREA|SELECT)$/.test(here.tagName);
  if (isCommand && event.key.toLowerCase() === 'k' && hasSearch) {
    event.preventDefault();
    $('q').focus();
    $('q').select();
    return;
  }
  if (isCommand || isTyping) return;
  const links = reads ? [] : [...$('results').querySelectorAll('a, .more')], at = links.indexOf(here);
  const isFinding = !reads && !$('finder').hidden;
  const q = place().get('q');
  if (event.key === '/' && hasSearch && (here !== $('q') || !$('q').value)) $('q').focus(), $('q').select();
  else if (event.key === 'Escape' && reads && here === $('q')) $('q').blur();
  else if (event.key === 'Escape' && reads && q) location.assign(address({q}));
  else if (event.key === 'Escape' && !reads && !isFinding && hasSearch) location.assign(address({q}));
  else if (event.key === 'Escape' && isFinding && here === $('q')) $('q').value = '', $('q').dispatchEvent(new Event('input'));
  else if (event.key === 'Escape' && isFinding) $('q').focus();
  else if (event.key === 'ArrowDown' && isFinding && (here === $('q') || at >= 0)) links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === 'ArrowUp' && isFinding && at >= 0) (links[at - 1] ?? $('q')).focus();
  else return;
  event.preventDefault();
});

document.querySelector('.skip').addEventListener('click', event => { event.preventDefault(); $('main').focus(); });
reads ? startReadPage() : startSearchPage();
poll();
