/** The samples of one pen, by timestamp, in typed arrays that grow and are trimmed. A later sample with the same timestamp wins. */
import type { Columns } from './protocol';

/** Quality below this is bad. */
export const UNCERTAIN = 64;
export const GOOD = 192;

/** More samples than this are thinned to their extremes: what eight days of a fast tag would take otherwise. */
export const MAX_SAMPLES = 120_000;

export interface Sample {
  readonly ts: number;
  readonly value: number;
  readonly quality: number;
  readonly text: string | null;
}

export class Store {
  #ts = new Float64Array(1024);
  #value = new Float64Array(1024);
  #quality = new Int16Array(1024);
  #text: (string | null)[] | null = null;
  #start = 0;
  #end = 0;
  #epoch = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Changes where samples change other than by being added behind the last or trimmed before the first. */
  get epoch(): number {
    return this.#epoch;
  }

  ts(i: number): number {
    return this.#ts[this.#start + i]!;
  }

  value(i: number): number {
    return this.#value[this.#start + i]!;
  }

  quality(i: number): number {
    return this.#quality[this.#start + i]!;
  }

  text(i: number): string | null {
    return this.#text?.[this.#start + i] ?? null;
  }

  /** Whether the sample has no value to draw: of bad quality, or without number and text. */
  bad(i: number): boolean {
    const at = this.#start + i;
    return this.#quality[at]! < UNCERTAIN || (Number.isNaN(this.#value[at]!) && (this.#text?.[at] ?? null) === null);
  }

  at(i: number): Sample | null {
    if (i < 0 || i >= this.length) return null;
    return { ts: this.ts(i), value: this.value(i), quality: this.quality(i), text: this.text(i) };
  }

  last(): Sample | null {
    return this.at(this.length - 1);
  }

  /** Index of the first sample at or behind `ts`; length if there is none. */
  lowerBound(ts: number): number {
    let low = this.#start;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ts[middle]! < ts) low = middle + 1;
      else high = middle;
    }
    return low - this.#start;
  }

  /** Index of the newest sample at or before `ts`, or -1. */
  before(ts: number): number {
    const i = this.lowerBound(ts);
    return i < this.length && this.ts(i) === ts ? i : i - 1;
  }

  /** The value of the line at `ts`: between two samples for a tag that is not stepped; null where there is none. */
  valueAt(ts: number, step: boolean): number | null {
    const i = this.before(ts);
    if (i < 0 || this.bad(i) || Number.isNaN(this.value(i))) return null;
    const value = this.value(i);
    if (step || i + 1 >= this.length || this.bad(i + 1)) return value;
    return value + ((this.value(i + 1) - value) * (ts - this.ts(i))) / (this.ts(i + 1) - this.ts(i));
  }

  /** A copy of its samples, thinned where there are more than `most`; of texts the newest. */
  columns(tagId: number, most = Infinity): Columns {
    if (this.length > most && this.#text === null) {
      const thinned = new Store();
      thinned.add(this.columns(tagId));
      thinned.thin(most);
      return thinned.columns(tagId);
    }
    const begin = Math.max(this.#start, this.#end - most);
    const part = <T extends Float64Array | Int16Array>(of: T): T => of.slice(begin, this.#end) as T;
    return { tagId: new Int32Array(this.#end - begin).fill(tagId), ts: part(this.#ts), value: part(this.#value), quality: part(this.#quality), text: this.#text?.slice(begin, this.#end) ?? null };
  }

  clear(): void {
    this.#epoch++;
    this.#start = this.#end = 0;
    if (this.#text) this.#text.length = 0;
  }

  /** Take samples in; their order does not matter, among equal timestamps the last wins. */
  add(columns: Columns): void {
    const n = columns.ts.length;
    if (n === 0) return;
    const order = ascending(columns.ts);
    const pick = order === null ? (i: number) => i : (i: number) => order[i]!;
    if (columns.text !== null && this.#text === null) this.#text = new Array<string | null>(this.#end).fill(null);
    if (this.length === 0 || columns.ts[pick(0)]! > this.#ts[this.#end - 1]!) {
      this.#reserve(n);
      for (let i = 0; i < n; i++) this.#push(columns, pick(i));
    } else {
      this.#merge(columns, pick);
    }
    if (this.length > MAX_SAMPLES) this.thin(MAX_SAMPLES / 2);
  }

  /** Forget what is older than `ts`, except the newest of it: it holds until the next. */
  trim(ts: number): void {
    const keep = this.before(ts);
    if (keep > 0) this.#start += keep;
    // the arrays are shortened when they next grow
  }

  /** Keep about `count` samples: of each stretch the lowest, the highest, and all that are bad or text. */
  thin(count: number): void {
    const n = this.length;
    const stride = Math.ceil((2 * n) / count);
    if (stride <= 2 || this.#text !== null) return;
    this.#epoch++;
    let out = this.#start;
    const put = (at: number) => {
      this.#ts[out] = this.#ts[at]!;
      this.#value[out] = this.#value[at]!;
      this.#quality[out] = this.#quality[at]!;
      out++;
    };
    for (let a = this.#start; a < this.#end; a += stride) {
      const b = Math.min(a + stride, this.#end);
      let low = -1;
      let high = -1;
      let previousBad = false;
      for (let i = a; i < b; i++) {
        if (this.bad(i - this.#start)) continue;
        if (low < 0 || this.#value[i]! < this.#value[low]!) low = i;
        if (high < 0 || this.#value[i]! > this.#value[high]!) high = i;
      }
      for (let i = a; i < b; i++) {
        const bad = this.bad(i - this.#start);
        // one of a row of bad samples breaks the line as well as all of them
        if (i === low || i === high || i === this.#end - 1 || (bad && !previousBad)) put(i);
        previousBad = bad;
      }
    }
    this.#end = out;
  }

  #push(columns: Columns, i: number): void {
    const ts = columns.ts[i]!;
    // among equal timestamps of one batch the last wins
    const at = this.length > 0 && this.#ts[this.#end - 1] === ts ? this.#end - 1 : this.#end++;
    this.#ts[at] = ts;
    this.#value[at] = columns.value[i]!;
    this.#quality[at] = columns.quality[i]!;
    if (this.#text) this.#text[at] = columns.text?.[i] ?? null;
  }

  #merge(columns: Columns, pick: (i: number) => number): void {
    this.#epoch++;
    const n = columns.ts.length;
    const from = this.#start + this.lowerBound(columns.ts[pick(0)]!);
    const held = this.#end - from;
    const ts = this.#ts.slice(from, this.#end);
    const value = this.#value.slice(from, this.#end);
    const quality = this.#quality.slice(from, this.#end);
    const text = this.#text?.slice(from, this.#end) ?? null;
    const old: Columns = { tagId: new Int32Array(0), ts, value, quality, text };
    this.#reserve(n);
    // #reserve may have moved the samples to the front
    this.#end -= held;
    if (this.#text) this.#text.length = this.#end;
    let a = 0;
    let b = 0;
    while (a < held || b < n) {
      const incoming = b < n ? pick(b) : -1;
      // the held one first: an incoming one with its timestamp then replaces it
      if (a < held && (b >= n || ts[a]! <= columns.ts[incoming]!)) this.#push(old, a++);
      else {
        this.#push(columns, incoming);
        b++;
      }
    }
  }

  /** Room for n more; moves the samples to the front, into new arrays where needed. */
  #reserve(n: number): void {
    if (this.#end + n <= this.#ts.length) return;
    const capacity = Math.max(1024, 2 ** Math.ceil(Math.log2((this.length + n) * 1.25)));
    const moved = <T extends Float64Array | Int16Array>(from: T, to: T): T => {
      to.set(from.subarray(this.#start, this.#end));
      return to;
    };
    this.#ts = moved(this.#ts, new Float64Array(capacity));
    this.#value = moved(this.#value, new Float64Array(capacity));
    this.#quality = moved(this.#quality, new Int16Array(capacity));
    if (this.#text) this.#text = this.#text.slice(this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/** The order that sorts timestamps, equal ones as they came; null if they are sorted. */
function ascending(ts: Float64Array): Uint32Array | null {
  let sorted = true;
  for (let i = 1; i < ts.length && sorted; i++) sorted = ts[i]! >= ts[i - 1]!;
  if (sorted) return null;
  const order = Uint32Array.from(ts, (_, i) => i);
  return order.sort((a, b) => ts[a]! - ts[b]! || a - b);
}
