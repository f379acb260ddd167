/** The line of a pen: which samples are seen, their extremes, and a path of at most a few points for each pixel column. */
import type { Store } from '../data/store';
import type { Window } from '../time/spans';

export interface Sink {
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
}

export interface Extent {
  readonly min: number;
  readonly max: number;
}

/** Lowest and highest good value in a window, or null. A stepped pen also has the value that holds as the window begins. */
export function extent(store: Store, window: Window, step: boolean): Extent | null {
  let min = Infinity;
  let max = -Infinity;
  const end = store.lowerBound(window.to);
  let i = store.lowerBound(window.from);
  if (step && i > 0) i--;
  for (; i < end; i++) {
    const value = store.value(i);
    if (store.quality(i) < 64 || Number.isNaN(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return min <= max ? { min, max } : null;
}

export interface TraceOptions {
  readonly window: Window;
  readonly step: boolean;
  /** up to where the newest value of a stepped pen holds */
  readonly holdsTo: number;
  readonly x: (ts: number) => number;
  readonly y: (value: number) => number;
  /** a line over a silence longer than this, in µs, is left to `onGap` */
  readonly gapOver?: number;
  readonly onGap?: (fromX: number, fromY: number, toX: number, toY: number) => void;
}

/**
 * Draw a pen. A bad sample breaks the line. The samples of one pixel column become its first, lowest, highest and last, so that no peak is lost
 * (M4: Jugel et al., VLDB 2014).
 */
export function trace(sink: Sink, store: Store, options: TraceOptions): void {
  const { window, step, holdsTo, x, y, gapOver = Infinity, onGap } = options;
  // one more on each side: the line goes on beyond the window
  const begin = Math.max(0, store.lowerBound(window.from) - 1);
  const end = Math.min(store.length, store.lowerBound(window.to) + 1);
  let drawing = false;
  let vertices = 0;
  let lastX = 0;
  let lastY = 0;
  // of the pixel column at hand, in pixels
  let column = NaN;
  let count = 0;
  let firstX = 0;
  let firstY = 0;
  let low = 0;
  let high = 0;
  let endX = 0;
  let endY = 0;

  const to = (px: number, py: number): void => {
    sink.lineTo(px, py);
    vertices++;
  };
  const flush = (): void => {
    if (count === 0) return;
    if (drawing) {
      if (step) to(firstX, lastY);
      to(firstX, firstY);
    } else {
      sink.moveTo(firstX, firstY);
      drawing = true;
      vertices = 1;
    }
    if (count > 1) {
      if (step) to(endX, firstY);
      if (low !== firstY || high !== firstY) {
        to(endX, low);
        to(endX, high);
      }
      to(endX, endY);
    }
    lastX = endX;
    lastY = endY;
    count = 0;
    column = NaN;
  };
  const lift = (): void => {
    flush();
    // a good sample alone among bad ones is a dot
    if (drawing && vertices === 1) to(lastX + 1.5, lastY);
    drawing = false;
  };

  for (let i = begin; i < end; i++) {
    const px = x(store.ts(i));
    if (store.quality(i) < 64 || Number.isNaN(store.value(i))) {
      flush();
      // a step holds until the bad sample
      if (drawing && step) to(px, lastY);
      lift();
      continue;
    }
    const py = y(store.value(i));
    if (i > begin && store.ts(i) - store.ts(i - 1) > gapOver && !step) {
      flush();
      if (drawing) onGap?.(lastX, lastY, px, py);
      lift();
    }
    const at = Math.floor(px);
    if (at !== column) {
      flush();
      column = at;
      firstX = px;
      firstY = low = high = py;
    }
    if (py > low) low = py;
    if (py < high) high = py;
    endX = px;
    endY = py;
    count++;
  }
  flush();
  if (drawing && step && end === store.length) {
    const px = x(Math.min(holdsTo, window.to));
    if (px > lastX) to(px, lastY);
  }
  lift();
}

/** A stretch over which a state or text holds; `at` is its first sample. */
export interface Stretch {
  readonly from: number;
  to: number;
  readonly at: number;
}

/** The states of a pen in a window, equal neighbours as one; none where it is bad. */
export function stretches(store: Store, window: Window, holdsTo: number): Stretch[] {
  const found: Stretch[] = [];
  const begin = Math.max(0, store.before(window.from));
  const end = store.lowerBound(window.to);
  let open: Stretch | null = null;
  for (let i = begin; i < end; i++) {
    const ts = store.ts(i);
    if (open !== null) open.to = ts;
    if (store.bad(i)) {
      open = null;
    } else if (open === null || store.value(i) !== store.value(open.at) && !(Number.isNaN(store.value(i)) && Number.isNaN(store.value(open.at))) || store.text(i) !== store.text(open.at)) {
      open = { from: ts, to: ts, at: i };
      found.push(open);
    }
  }
  if (open !== null) {
    const next = end < store.length ? store.ts(end) : holdsTo;
    open.to = Math.max(open.to, Math.min(next, window.to));
  }
  return found;
}

/** How long a silence of a tag is in a window before it is one: many times what lies between its samples there, in µs; Infinity where there are too few to tell. */
export function silence(store: Store, window: Window): number {
  const begin = Math.max(0, store.lowerBound(window.from) - 1);
  const end = Math.min(store.length, store.lowerBound(window.to) + 1);
  if (end - begin < 8) return Infinity;
  const stride = Math.max(1, Math.floor((end - begin) / 128));
  const between: number[] = [];
  for (let i = begin + 1; i < end; i += stride) between.push(store.ts(i) - store.ts(i - 1));
  between.sort((a, b) => a - b);
  return Math.max(between[Math.floor(between.length / 2)]! * 20, (window.to - window.from) / 60);
}

/** Bounds around an extent at round numbers, which do not move with every sample. */
export function niceRange(min: number, max: number): [number, number] {
  let span = max - min;
  if (span <= Math.abs(max) * 1e-9 || span === 0) {
    span = Math.max(Math.abs(max) * 0.02, 0.5);
    min -= span / 2;
    max += span / 2;
  }
  const pad = span * 0.06;
  const rough = (span + 2 * pad) / 20;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  return [Math.floor((min - pad) / step) * step, Math.ceil((max + pad) / step) * step];
}
