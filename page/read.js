// The page of a document.
'use strict';

function highlight(root, matcher) {
  if (!matcher) return;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) node.replaceWith(...marked(node.data, matcher));
}

function startReadPage() {
  const article = $('document');
  const matcher = matcherOf(place().get('q') ?? '');
  if (matcher) highlight(article, matcher);
  if (matchMedia('(max-width: 74rem)').matches) document.querySelector('details.contents')?.removeAttribute('open');
  addEventListener('hashchange', showLine);
  showLine();
  const target = article.querySelector('[data-marked]');
  if (target && !/^#L\d/.test(location.hash)) target.scrollIntoView({behavior: 'instant', block: 'center'});
  // What is not seen at once, or measures the page, is done after the first paint.
  requestAnimationFrame(() => setTimeout(completeReadPage, 0, article));
}

function completeReadPage(article) {
  for (const pre of article.querySelectorAll('pre:not(.source)')) {
    const button = h('button', {type: 'button', onclick: () => copy(pre.textContent, button, 'Copied')}, 'Copy');
    const frame = h('div', {class: 'code'});
    pre.replaceWith(frame);
    frame.append(pre, button);
  }
  for (const anchor of article.querySelectorAll('.anchor')) anchor.addEventListener('click', () => copy(anchor.href, anchor));
  const current = document.querySelector('.tree [aria-current]'), tree = $('tree');
  if (current && tree && tree.scrollHeight > tree.clientHeight) tree.scrollTop = current.offsetTop - tree.clientHeight / 3;
  followContents(article);
  keepPlace(article);
  tree?.addEventListener('click', event => {
    const link = event.target.closest('a.folder');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    openFolder(link);
  });
}

// openFolder shows what is in a folder of a large tree. This page has only a link to it, so openFolder takes it from the folder's page.
function openFolder(link) {
  const request = new XMLHttpRequest();
  request.open('GET', link.href);
  request.responseType = 'document';
  request.setRequestHeader('Accept', 'text/html');
  request.onloadend = () => {
    const folder = [...request.response?.querySelectorAll('.tree details[open]') ?? []].at(-1);
    if (request.status !== 200 || !folder) return location.assign(link.href);
    for (const a of folder.querySelectorAll('a')) {
      a.href = a.href; // in that page, relative to its address
      a.removeAttribute('aria-current');
    }
    link.replaceWith(folder);
    folder.querySelector('summary').focus();
  };
  request.send();
}

// keepPlace returns to the block that was at the top before a reload. The browser keeps only the distance from the beginning of the
// page, which the estimated heights of blocks far from sight make wrong.
function keepPlace(article) {
  const {at, top} = history.state ?? {};
  const isAgain = performance.getEntriesByType('navigation')[0]?.type !== 'navigate';
  const block = isAgain && article.children[at];
  if (block) {
    block.scrollIntoView({behavior: 'instant'});
    requestAnimationFrame(() => scrollBy({top: block.getBoundingClientRect().top - top, behavior: 'instant'}));
  }
  addEventListener('scrollend', () => {
    const blocks = [...article.children];
    const first = blocks.findIndex(block => block.getBoundingClientRect().bottom > 100);
    history.replaceState({at: first, top: blocks[first]?.getBoundingClientRect().top}, '');
  });
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

startReadPage();
poll(readiness, () => 10_000);
