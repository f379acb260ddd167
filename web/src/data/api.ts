/** HTTP to the server: the token, the server's clock, and problem documents as errors. */
import type { Tag } from './protocol';

const TOKEN_KEY = 'historian.token';

/** An answer that is no success: `title` and `detail` of its problem document. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    /** what is wrong in a document, each with its path */
    readonly faults: readonly { path?: string; detail: string }[] = [],
  ) {
    super(detail ? `${title}: ${detail}` : title);
  }
}

/** The address of something on the server that brought this page, also below a path of a proxy. */
export function address(path: string, scheme?: 'ws'): URL {
  const url = new URL(path, document.baseURI);
  url.hash = '';
  if (scheme === 'ws') url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url;
}

export function token(): string | null {
  return sessionStorage.getItem(TOKEN_KEY);
}

export function setToken(value: string): void {
  sessionStorage.setItem(TOKEN_KEY, value);
}

/** Told the instant, in µs, that the server put on an answer. */
let onDate: (serverUs: number) => void = () => undefined;

export function observeDate(listener: (serverUs: number) => void): void {
  onDate = listener;
}

/** Told that the server does not take the token at hand, or wants one. */
let onRefused: () => void = () => undefined;

export function observeRefused(listener: () => void): void {
  onRefused = listener;
}

/** Whether a request failed because the server, or what stands before it, cannot be reached. */
export function isAway(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof Problem && error.status >= 502 && error.status <= 504);
}

/** GET. Throws Problem for an answer that is no success, TypeError without one, AbortError. */
export function get(path: string, signal?: AbortSignal): Promise<Response> {
  return send('GET', path, { signal: signal ?? null });
}

/** Any request; throws as `get`. */
export async function send(method: string, path: string, init: { headers?: Record<string, string>; body?: string; signal?: AbortSignal | null } = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const secret = token();
  // headers are bytes: those of UTF-8, each as a character
  if (secret !== null) headers.set('Authorization', `Bearer ${String.fromCharCode(...new TextEncoder().encode(secret))}`);
  const response = await fetch(address(path), { method, headers, body: init.body ?? null, signal: init.signal ?? null, cache: 'no-store' });
  const date = Date.parse(response.headers.get('Date') ?? '');
  if (!Number.isNaN(date)) onDate(date * 1000);
  // refused with a token that has been replaced while this was on its way: that is no news
  if (response.status === 401 && secret !== token()) return send(method, path, init);
  if (response.status === 401) onRefused();
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const document = (await response.json()) as { title?: string; detail?: string; errors?: { path?: string; detail: string }[] };
    return new Problem(response.status, document.title ?? response.statusText, document.detail ?? '', document.errors);
  } catch {
    return new Problem(response.status, `HTTP ${response.status}`, response.statusText);
  }
}

/** The catalogue, or what of it a path or wildcard names. */
export async function getTags(match?: string): Promise<Tag[]> {
  const response = await get(match === undefined ? 'v1/tags' : `v1/tags?${new URLSearchParams({ match }).toString()}`);
  return ((await response.json()) as { tags: Tag[] }).tags;
}
