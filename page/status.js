// The Status view: plots of /metrics, recent requests, their waterfalls, and questions without an answer.
'use strict';

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
  if (isListed && (!before || sample.count !== before.count)) drawCalls();
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

// isListed says that the requests have been shown: the list is drawn again when there are new ones.
let isListed = false;

function drawClosed(fault) {
  isListed = false;
  $('gaps').hidden = true;
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
  if (!isListed || mayAsk) drawGaps();
  isListed = true;
  $('gaps').hidden = false;
  const list = () => lists[kind].filter(call => !call.name.includes(' /debug/')).slice(0, 20); // requests of this page
  const now = place().get('request');
  const show = () => {
    for (const button of buttons.children) button.setAttribute('aria-pressed', String(button.dataset.kind === kind));
    const shown = list(), most = Math.max(...shown.map(call => call.status ? call.took_ms : 0)); // without jobs, which may take much longer
    calls.replaceChildren(...shown.map(call => h('li', null, h('a', {href: address({request: call.correlation_id, q: place().get('q')}), 'aria-current': call.correlation_id === now && 'true'},
      h('span', {class: 'name'}, call.name), h('span', {class: 'took'}, ms(call.took_ms)), shareBar(Math.min(call.took_ms / most, 1)),
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

// shareBar draws a thin bar: the time relative to the slowest request in the list.
function shareBar(share) {
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
  const {q, prefix} = Object.fromEntries(place());
  const isSearch = q && found.some(call => call.name === 'GET /search');
  const reasons = h('section', {class: 'sheet', 'aria-labelledby': 'reasons-title', hidden: !isSearch});
  showReader(bar(id), ...found.map(waterfall), reasons);
  if (isSearch) drawReasons(reasons, q, prefix ?? '');
  document.title = `${found[0].name} – ${site}`;
  scrollTo({top: 0, behavior: 'instant'});
  $('reader').querySelector('.sheet').focus({preventScroll: true});
}

// drawReasons asks the query again, because the server keeps no queries, and shows why each hit is found.
async function drawReasons(sheet, q, prefix) {
  let answer;
  try {
    answer = await (await get(`search?limit=10&partial=1&explain=1&q=${encodeURIComponent(q)}&prefix=${encodeURIComponent(prefix)}`, {quiet: true})).json();
  } catch (fault) {
    return sheet.replaceChildren(faultText(fault));
  }
  const score = n => n.toFixed(3);
  sheet.replaceChildren(
    h('h2', {id: 'reasons-title'}, 'Why these documents'),
    h('p', {class: 'small muted'}, `“${answer.corrected ?? answer.query}”, asked again: the words that each passage shares with it, with their weights, and the parts of its score.`),
    answer.hits.length ? h('ol', {class: 'reasons'}, ...answer.hits.map(hit => h('li', null,
      h('a', {href: readAddress(hit.document, {q, line: hit.line}, hit.url?.split('#')[1])}, hit.title || hit.document),
      h('div', {class: 'where'}, h('span', {class: 'path'}, hit.document), hit.heading && hit.heading !== hit.title ? ` — ${hit.heading}` : ''),
      hit.why.words.length ? h('ul', {class: 'words', 'aria-label': 'Words'}, ...hit.why.words.map(({word, weight}) => h('li', null, word, ' ', h('b', null, number(weight, 2))))) : h('p', {class: 'small muted'}, 'No word in common: found by its vector.'),
      h('p', {class: 'sum'}, h('b', null, score(hit.score)), ' = words ', h('b', null, score(hit.why.lexical)), ' + vector ', h('b', null, score(hit.why.vector)), ' + title ', h('b', null, score(hit.why.title)))))) : h('p', null, 'Nothing is found.'));
}

function bar(id) {
  const {q, prefix} = Object.fromEntries(place());
  return h('div', {class: 'bar'}, h('a', {href: q ? address({q, prefix}) : `${root}?status`}, q ? '← Results' : '← Requests'), h('span', {class: 'id mono'}, id));
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
      h('tbody', null, row(call.name, 0, 0, call.took_ms, call.error), ...(call.stages ?? []).map(s => row(s.name, s.depth, s.start_ms, s.took_ms, s.error, s.attributes)))),
    call.execution_trace ? executionTrace(call.execution_trace) : '');
}

// executionTrace links to what the Go runtime did during a slow request.
function executionTrace(path) {
  return h('p', {class: 'trace'}, h('a', {href: root + path.slice(1), download: 'slow.trace'}, 'Execution trace'), ' of the seconds before the end of this request. Read it with ', h('code', null, 'go tool trace slow.trace'), '.');
}

// ---- questions without an answer

const problems = {nothing_found: 'nothing found', corrected: 'found by another spelling'};

// drawGaps lists the questions of RECORD_GAPS, the most frequent first.
async function drawGaps() {
  if (!('gaps' in document.documentElement.dataset)) {
    $('gap-list').replaceChildren(h('p', {class: 'small muted'}, 'Set RECORD_GAPS=true and start again to see here what was asked and not found.'));
    return;
  }
  let gaps;
  try {
    ({gaps} = await (await get('debug/gaps?format=json', {quiet: true})).json());
  } catch (fault) {
    $('gap-list').replaceChildren(faultText(fault));
    return;
  }
  if (!gaps.length) {
    $('gap-list').replaceChildren(h('p', {class: 'small muted'}, 'None since the start.'));
    return;
  }
  $('gap-list').replaceChildren(h('table', {class: 'gaps'},
    h('thead', null, h('tr', null, ...['Question', 'Times', 'Problem', 'Last', 'Client', 'Actions'].map(title => h('th', {scope: 'col'}, title)))),
    h('tbody', null, ...gaps.map(drawGap))));
}

function drawGap(gap) {
  const cell = (title, ...children) => h('td', {'data-title': title}, ...children);
  const scope = [gap.prefix && `below ${gap.prefix}`, gap.document && `in ${gap.document}`].filter(Boolean).join(' ');
  const button = h('button', {type: 'button', title: 'Copy a line for questions.tsv', onclick: () => copy(gap.test, button, 'Copied')}, 'Make it a test');
  return h('tr', null,
    h('th', {scope: 'row'}, gap.question, scope ? h('small', null, scope) : ''),
    cell('Times', number(gap.count)),
    cell('Problem', problems[gap.problem] ?? gap.problem),
    cell('Last', h('time', {datetime: gap.last}, new Date(gap.last).toLocaleString('en-GB', {dateStyle: 'medium', timeStyle: 'short'}))),
    cell('Client', gap.client),
    h('td', {class: 'actions'}, h('a', {href: address({request: gap.correlation_id})}, 'Waterfall'), button));
}
