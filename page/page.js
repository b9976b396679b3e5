// What all pages share: requests to the server, signing in, addresses, the state of the service, and keys. Data from the server is
// only ever set as text: trusted types forbid everything else.
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

// ---- the state of the service

// readiness shows whether the server is ready, and returns what it says of itself.
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
  return text;
}

// poll calls look again and again while the page is seen. pause returns the milliseconds until the next call.
async function poll(look, pause) {
  if (!document.hidden) await look();
  setTimeout(poll, pause(), look, pause);
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
