/** Draws the line of a pen: its samples, or, where a pixel has many, the envelope of their lowest and highest; what is bad, uncertain or silent is shown as such. */
import type { Pen } from '../pens/pen';
import { GOOD, type Store } from '../data/store';
import type { Window } from '../time/spans';
import { BAD_FIRST, BAD_LAST, HAS_BAD, HAS_UNCERTAIN, HAS_VALUE, PixelColumns } from './columns';
import { extent, type Extent, silence, trace } from './trace';

/** From so many samples on for each pixel column, the envelope is drawn. */
const DENSE = 2.2;
/** A column that is no higher than this is drawn as a line, CSS pixels. */
const THIN = 1.5;
/** A column whose first and last sample are so far apart, as a part of its height, is a slope. */
const SLOPE = 0.7;
/** Silent columns over which an envelope is not drawn through. */
const SILENT_COLUMNS = 16;
/** Of the marks for bad and uncertain stretches, CSS pixels. */
export const MARK = 3;

export interface LineOptions {
  readonly window: Window;
  /** up to where the newest value of a stepped pen holds */
  readonly holdsTo: number;
  readonly x: (ts: number) => number;
  readonly y: (value: number) => number;
  /** of the plot, in pixels of the canvas */
  readonly columns: number;
  readonly ratio: number;
  /** what of the window is drawn, where that is not all of it */
  readonly part?: Window;
}

/** A line that goes over a silence. */
type Gap = [number, number, number, number];

/** How one store is drawn; keeps what it has counted from frame to frame. */
export class Line {
  #columns = new PixelColumns();

  /** Lowest and highest value in the window, or null. */
  extent(pen: Pen, store: Store, window: Window, columns: number): Extent | null {
    if (!this.#dense(store, window, columns)) return extent(store, window, pen.tag.step);
    this.#columns.update(store, window, columns);
    return this.#columns.extent();
  }

  /** Strokes and fills with the styles of `ctx`. */
  draw(ctx: CanvasRenderingContext2D, pen: Pen, store: Store, options: LineOptions): void {
    const gaps: Gap[] = [];
    const dash = ctx.getLineDash();
    // dashes have their place in time too, wherever drawing begins
    const first = store.length === 0 ? 0 : store.ts(Math.max(0, Math.min(store.length, store.lowerBound((options.part ?? options.window).from)) - 1));
    ctx.lineDashOffset = (first / (options.window.to - options.window.from)) * options.columns;
    ctx.beginPath();
    if (this.#dense(store, options.window, options.columns)) {
      this.#columns.update(store, options.window, options.columns);
      envelope(ctx, this.#columns, { ...options, window: options.part ?? options.window }, (...gap) => gaps.push(gap));
    } else {
      const { window } = options;
      trace(ctx, store, { ...options, window: options.part ?? window, step: pen.tag.step, gapOver: pen.tag.step ? Infinity : silence(store, window), onGap: (...gap) => gaps.push(gap) });
    }
    ctx.stroke();
    if (gaps.length === 0) return;
    ctx.beginPath();
    for (const [fromX, fromY, toX, toY] of gaps) {
      ctx.moveTo(fromX, fromY);
      ctx.lineTo(toX, toY);
    }
    const { globalAlpha, lineWidth } = ctx;
    ctx.globalAlpha = globalAlpha * 0.5;
    ctx.lineWidth = options.ratio;
    ctx.setLineDash([2 * options.ratio, 5 * options.ratio]);
    ctx.stroke();
    ctx.setLineDash(dash);
    ctx.globalAlpha = globalAlpha;
    ctx.lineWidth = lineWidth;
  }

  /** Marks along the bottom: full where the pen is bad, half as high where it is uncertain. Returns whether there were any. */
  marks(ctx: CanvasRenderingContext2D, store: Store, options: LineOptions, bottom: number): boolean {
    const dense = this.#dense(store, options.window, options.columns);
    if (dense) this.#columns.update(store, options.window, options.columns);
    const runs = dense ? columnRuns(this.#columns) : sampleRuns(store, options.window, options.holdsTo);
    for (const { from, to, bad } of runs) {
      const left = options.x(from);
      const height = (bad ? MARK : MARK / 2) * options.ratio;
      ctx.fillRect(left, bottom - height, Math.max(1.5 * options.ratio, options.x(to) - left), height);
    }
    return runs.length > 0;
  }

  #dense(store: Store, window: Window, columns: number): boolean {
    return store.lowerBound(window.to) - store.lowerBound(window.from) > DENSE * columns;
  }
}

/**
 * A bar for each column, from its lowest to its highest, where that is more than a line; else the line. Bars are rectangles, which cost a fraction of what an outline
 * does where there is no graphics card.
 */
function envelope(ctx: CanvasRenderingContext2D, columns: PixelColumns, { window, x, y, ratio }: LineOptions, onGap: (...gap: Gap) => void): void {
  const { flags, low, high } = columns;
  const { globalAlpha, lineWidth } = ctx;
  const first = columns.index(window.from) - 1;
  const end = Math.min(columns.length, columns.index(window.to) + 2);
  let last = -1;
  let pen = false;
  let [lastTop, lastBottom] = [0, 0];
  ctx.beginPath();
  for (let i = Math.max(0, first); i < end; i++) {
    const flag = flags[i]!;
    if (flag & BAD_FIRST) last = -1;
    if (flag & HAS_VALUE) {
      const at = x(columns.ts(i));
      let [top, bottom] = [y(high[i]!), y(low[i]!)];
      if (last >= 0 && i - last > SILENT_COLUMNS) {
        onGap(x(columns.ts(last)), (lastTop + lastBottom) / 2, at, (top + bottom) / 2);
        last = -1;
      }
      const thin = bottom - top < THIN * ratio;
      if (thin) {
        if (last < 0) ctx.moveTo(at, top);
        // from the middle of a bar the line goes on
        else if (!pen) ctx.moveTo(x(columns.ts(last)), (lastTop + lastBottom) / 2);
        // one column alone is a dot
        ctx.lineTo(last < 0 ? at + 1 : at, (top + bottom) / 2);
      } else {
        if (pen) ctx.lineTo(at, (top + bottom) / 2);
        // up to the bar before, so that there is no hole between them
        if (last >= 0 && i - last > 1) bar(ctx, x(columns.ts(last)), at, Math.max(top, lastTop), Math.max(top, lastTop) + lineWidth);
        else if (last >= 0 && lastBottom < top) top = lastBottom;
        else if (last >= 0 && lastTop > bottom) bottom = lastTop;
        const left = at - ratio / 2;
        // a steep slope is as full as the line that it goes on from; what goes up and down is an envelope
        const slope = Math.abs(columns.last[i]! - columns.first[i]!) > SLOPE * (high[i]! - low[i]!);
        ctx.globalAlpha = slope ? globalAlpha : globalAlpha * 0.35;
        bar(ctx, left, left + ratio, top, bottom);
        ctx.globalAlpha = globalAlpha;
        bar(ctx, left, left + ratio, top - lineWidth / 2, top + lineWidth / 2);
        bar(ctx, left, left + ratio, bottom - lineWidth / 2, bottom + lineWidth / 2);
      }
      pen = thin;
      last = i;
      [lastTop, lastBottom] = [y(high[i]!), y(low[i]!)];
    }
    if (flag & BAD_LAST) last = -1;
  }
}

function bar(ctx: CanvasRenderingContext2D, left: number, right: number, top: number, bottom: number): void {
  ctx.fillRect(left, top, right - left, bottom - top);
}

interface Run {
  readonly from: number;
  to: number;
  readonly bad: boolean;
}

function columnRuns(columns: PixelColumns): Run[] {
  const runs: Run[] = [];
  let open: Run | null = null;
  const half = columns.length > 1 ? (columns.ts(1) - columns.ts(0)) / 2 : 0;
  for (let i = 0; i < columns.length; i++) {
    const flag = columns.flags[i]!;
    // an empty column goes on as what was before
    if (flag === 0) continue;
    const ts = columns.ts(i);
    if (open !== null) open.to = ts - half;
    const state: boolean | null = flag & HAS_BAD ? true : flag & HAS_UNCERTAIN ? false : null;
    if (state === null) open = null;
    else if (open === null || open.bad !== state) {
      open = { from: ts - half, to: ts + half, bad: state };
      runs.push(open);
    }
    if (open !== null) open.to = ts + half;
  }
  return runs;
}

function sampleRuns(store: Store, window: Window, holdsTo: number): Run[] {
  const runs: Run[] = [];
  let open: Run | null = null;
  const end = Math.min(store.length, store.lowerBound(window.to) + 1);
  for (let i = Math.max(0, store.before(window.from)); i < end; i++) {
    const ts = store.ts(i);
    if (open !== null) open.to = ts;
    const state: boolean | null = store.bad(i) ? true : store.quality(i) < GOOD ? false : null;
    if (state === null) open = null;
    else if (open === null || open.bad !== state) {
      open = { from: ts, to: ts, bad: state };
      runs.push(open);
    }
  }
  if (open !== null && end === store.length) open.to = Math.max(open.to, Math.min(holdsTo, window.to));
  return runs;
}
