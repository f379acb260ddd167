/** Says what has happened, for screen readers: one thing at a time, and never faster than it can be listened to. */
import { el } from './dom';

const REST_MS = 1500;

let region: HTMLElement | undefined;
let waiting: string[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;

/** Say something, soon, with what else waits to be said. */
export function announce(what: string): void {
  // a region is listened to from when it stands in the page on
  if (region === undefined) document.body.append((region = el('div', { class: 'unseen announced', 'aria-live': 'polite' })));
  waiting.push(what);
  timer ??= setTimeout(say, 50);
}

function say(): void {
  timer = undefined;
  if (waiting.length === 0 || region === undefined) return;
  // of an avalanche the newest
  region.replaceChildren(el('p', {}, waiting.slice(-8).join('. ')));
  waiting = [];
  timer = setTimeout(say, REST_MS);
}
