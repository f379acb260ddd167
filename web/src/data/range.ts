/** Range queries: history of the pens, at the resolution of the chart. Times are µs. */
import { get, Problem } from './api';
import { decodeSamples } from './decoder';
import type { Columns } from './protocol';
import type { Window } from '../time/spans';

/** Samples of tags, and of expressions, whose ids are -1, -2, …, in a window, still mixed. Throws Problem, ProtocolError, AbortError. */
export async function fetchRange(
  paths: readonly string[],
  window: Window,
  points: number,
  signal?: AbortSignal,
  expressions: readonly string[] = [],
): Promise<Columns> {
  const query = new URLSearchParams([...paths.map((path) => ['tag', path]), ...expressions.map((text) => ['expr', text])]);
  query.set('start', String(Math.floor(window.from)));
  query.set('end', String(Math.ceil(window.to)));
  query.set('mode', 'auto');
  query.set('points', String(points));
  query.set('format', 'arrow');
  const response = await get(`v1/range?${query.toString()}`, signal);
  return decodeSamples(await response.arrayBuffer());
}

/** One number for each tag in a window (docs/aggregates.md). Throws as `fetchRange`. */
export async function fetchAggregate(paths: readonly string[], window: Window, mode: string, signal?: AbortSignal): Promise<Columns> {
  const query = new URLSearchParams(paths.map((path) => ['tag', path]));
  query.set('start', String(Math.floor(window.from)));
  query.set('end', String(Math.ceil(window.to)));
  query.set('mode', mode);
  query.set('format', 'arrow');
  const response = await get(`v1/range?${query.toString()}`, signal);
  return decodeSamples(await response.arrayBuffer());
}

/** When the first sample of a tag was, in µs; null if it has none. Throws as `fetchRange`. */
export async function fetchFirst(path: string, signal?: AbortSignal): Promise<number | null> {
  const query = new URLSearchParams({ tag: path, start: '0', limit: '1', format: 'arrow' });
  const response = await get(`v1/range?${query.toString()}`, signal);
  return (await decodeSamples(await response.arrayBuffer())).ts[0] ?? null;
}

/** What is wrong with an expression, in the server's words, or null. Throws Problem for another reason, AbortError, TypeError. */
export async function faultOf(expression: string): Promise<string | null> {
  try {
    await get(`v1/range?${new URLSearchParams({ expr: expression, start: '0', end: '0' }).toString()}`);
    return null;
  } catch (error) {
    if (error instanceof Problem && (error.status === 400 || error.status === 404 || error.status === 413)) return error.detail;
    throw error;
  }
}

/** The newest sample of a tag, whenever it was; none if it has none. Throws as fetchRange. */
export async function fetchNewest(path: string): Promise<Columns> {
  const query = new URLSearchParams({ match: path, format: 'arrow' });
  const response = await get(`v1/snapshot?${query.toString()}`);
  return decodeSamples(await response.arrayBuffer());
}

/** What stood in tags at an instant, as samples of that instant; without a value where nothing did. Throws as fetchRange. */
export async function fetchAt(paths: readonly string[], at: number): Promise<Columns> {
  const query = new URLSearchParams(paths.map((path) => ['tag', path]));
  for (const [name, value] of Object.entries({ mode: 'at', at: String(Math.floor(at)), format: 'arrow' })) query.set(name, value);
  const response = await get(`v1/range?${query.toString()}`);
  return decodeSamples(await response.arrayBuffer());
}

/** The samples of each tag by its id. */
export function byTag(columns: Columns): Map<number, Columns> {
  const { tagId, ts, value, quality, text } = columns;
  const rows = new Map<number, number[]>();
  for (let i = 0; i < tagId.length; i++) {
    const of = rows.get(tagId[i]!);
    if (of === undefined) rows.set(tagId[i]!, [i]);
    else of.push(i);
  }
  const split = new Map<number, Columns>();
  for (const [id, at] of rows) {
    split.set(id, {
      tagId: Int32Array.from(at, () => id),
      ts: Float64Array.from(at, (i) => ts[i]!),
      value: Float64Array.from(at, (i) => value[i]!),
      quality: Int16Array.from(at, (i) => quality[i]!),
      text: text === null ? null : at.map((i) => text[i] ?? null),
    });
  }
  return split;
}

/** Fetches for a window that moves: waits until it rests, and drops what is asked for where the next one comes. */
export class Debounced {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #abort: AbortController | null = null;

  constructor(private readonly delayMs: number) {}

  run(task: (signal: AbortSignal) => Promise<unknown>): void {
    this.cancel();
    this.#timer = setTimeout(() => {
      const abort = new AbortController();
      this.#abort = abort;
      void task(abort.signal);
    }, this.delayMs);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }
}
