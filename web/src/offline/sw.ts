/**
 * The service worker: keeps the files of one build of the pages, so that they open without a network. Built into `sw.js`, with the list of the files.
 *
 * It never touches what the server answers under /v1, nor WebSockets: samples are kept by the pages themselves (kept.ts).
 *
 * Pages come from the server as long as it answers, so that a new build is taken at the next load; only without an answer the kept page is shown. The files that a page
 * names carry a hash of their content: of two builds none is ever taken for the other. All files of a build are kept, or none: a page that the server has replaced since
 * this list was made has another digest than the list says, and the browser refuses it.
 *
 * Our own few lines and not Workbox: that brings several hundred packages to the build and 10 kB to the worker, for strategies of which we need two.
 */
import type { Build } from './build';

declare const self: ServiceWorkerGlobalScope;
/** Put in by the build (vite.config.ts). */
declare const __BUILD__: Build;

/** A server that has not answered by then is taken for gone. */
const PATIENCE_MS = 4000;
// other servers may have pages below other paths of the same origin
const PREFIX = `historian ${self.registration.scope} `;
const CACHE = PREFIX + __BUILD__.version;

function at(path: string): string {
  return new URL(path, self.registration.scope).href;
}

const pages = new Set(__BUILD__.pages.map(at));
const files = new Set(Object.keys(__BUILD__.files).map(at));

async function keep(): Promise<void> {
  const cache = await caches.open(CACHE);
  const wanted = Object.entries(__BUILD__.files).map(([path, integrity]) => new Request(at(path), { cache: 'no-cache', integrity }));
  await cache.addAll(wanted);
}

/** Caches of builds before this one. */
async function forget(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
}

function without(url: string): string {
  return url.replace(/[?#].*$/, '');
}

async function kept(url: string): Promise<Response | undefined> {
  return (await caches.open(CACHE)).match(url);
}

/** A page: the server's, or without an answer the kept one. */
async function page(request: Request): Promise<Response> {
  const url = without(request.url);
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    const response = await fetch(request, { signal: patience.signal });
    // a proxy that stands before a server that is gone
    if (response.status < 502 || response.status > 504) return response;
    return (await kept(url)) ?? response;
  } catch (error) {
    const found = await kept(url);
    if (found === undefined) throw error;
    return found;
  } finally {
    clearTimeout(timer);
  }
}

self.addEventListener('install', (event) => event.waitUntil(keep().then(() => self.skipWaiting())));

self.addEventListener('activate', (event) => event.waitUntil(forget().then(() => self.clients.claim())));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET') return;
  const url = without(request.url);
  if (request.mode === 'navigate' && pages.has(url)) event.respondWith(page(request));
  else if (!pages.has(url) && files.has(url)) event.respondWith(kept(url).then((found) => found ?? fetch(request)));
});

/** A page asks whether it is of this build: by the addresses of its files. */
self.addEventListener('message', (event: ExtendableMessageEvent) => {
  const asked = event.data as readonly string[];
  event.ports[0]?.postMessage(asked.every((url) => files.has(without(url))));
});
