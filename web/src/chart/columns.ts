/**
 * The samples of a pen by columns of time, one for each pixel: what a dense line is drawn from. Columns lie on a grid of time, not of the window: as it moves,
 * they stay as they are, and only what is new is counted. So a frame costs what the screen is wide, however many samples there are.
 */
import { type Store, UNCERTAIN, GOOD } from '../data/store';
import type { Window } from '../time/spans';

/** Of a column: */
export const HAS_VALUE = 1;
export const HAS_BAD = 2;
/** its first or last sample is bad: the line is broken there */
export const BAD_FIRST = 4;
export const BAD_LAST = 8;
export const HAS_UNCERTAIN = 16;

/** Columns beyond each edge of the window. */
const MARGIN = 1;

export class PixelColumns {
  low = new Float64Array(0);
  high = new Float64Array(0);
  first = new Float64Array(0);
  last = new Float64Array(0);
  flags = new Uint8Array(0);
  #store: Store | null = null;
  #epoch = -1;
  /** µs */
  #width = 0;
  /** of the first column, on the grid */
  #begin = 0;
  /** the column, on the grid, from which on samples may have come since */
  #open = 0;

  get length(): number {
    return this.flags.length;
  }

  /** Where the middle of a column is, in µs. */
  ts(i: number): number {
    return (this.#begin + i + 0.5) * this.#width;
  }

  /** The column of an instant. */
  index(ts: number): number {
    return Math.floor(ts / this.#width) - this.#begin;
  }

  /** Count the samples in a window of `count` columns. */
  update(store: Store, window: Window, count: number): void {
    const width = Math.max(1, Math.round(window.to - window.from)) / count;
    const first = Math.floor(window.from / width) - MARGIN;
    const length = count + 1 + 2 * MARGIN;
    const by = first - this.#begin;
    const same = store === this.#store && store.epoch === this.#epoch && width === this.#width && length === this.length && by >= 0 && by < length;
    if (length !== this.length) {
      this.low = new Float64Array(length);
      this.high = new Float64Array(length);
      this.first = new Float64Array(length);
      this.last = new Float64Array(length);
      this.flags = new Uint8Array(length);
    }
    if (same && by > 0) for (const array of [this.low, this.high, this.first, this.last, this.flags]) array.copyWithin(0, by);
    const from = same ? Math.max(first, Math.min(this.#open, this.#begin + length)) : first;
    this.#store = store;
    this.#epoch = store.epoch;
    this.#width = width;
    this.#begin = first;
    this.#count(store, from);
  }

  #count(store: Store, from: number): void {
    const { low, high, flags } = this;
    const [width, begin, length] = [this.#width, this.#begin, this.length];
    flags.fill(0, from - begin);
    let i = store.lowerBound(from * width);
    // rounding may put the last one of the column before on the edge
    while (i > 0 && Math.floor(store.ts(i - 1) / width) >= from) i--;
    const end = store.length;
    let open = from;
    for (; i < end; i++) {
      const on = Math.floor(store.ts(i) / width);
      if (on < from) continue;
      const at = on - begin;
      if (at >= length) break;
      open = on;
      const quality = store.quality(i);
      const value = store.value(i);
      const before = flags[at]!;
      if (quality < UNCERTAIN || value !== value) {
        flags[at] = before | HAS_BAD | BAD_LAST | (before === 0 ? BAD_FIRST : 0);
        continue;
      }
      if (before & HAS_VALUE) {
        if (value < low[at]!) low[at] = value;
        if (value > high[at]!) high[at] = value;
      } else {
        low[at] = high[at] = this.first[at] = value;
      }
      this.last[at] = value;
      flags[at] = (before & ~BAD_LAST) | HAS_VALUE | (quality < GOOD ? HAS_UNCERTAIN : 0);
    }
    this.#open = open;
  }

  /** Lowest and highest value, or null. */
  extent(): { min: number; max: number } | null {
    let min = Infinity;
    let max = -Infinity;
    for (let i = 0; i < this.length; i++) {
      if (!(this.flags[i]! & HAS_VALUE)) continue;
      if (this.low[i]! < min) min = this.low[i]!;
      if (this.high[i]! > max) max = this.high[i]!;
    }
    return min <= max ? { min, max } : null;
  }
}
