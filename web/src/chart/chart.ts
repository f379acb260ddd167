/**
 * The chart: uPlot for the time axis, the canvas and the cursor; strips, value axes, lines and lanes are drawn from the stores of the pens, each with timestamps of
 * its own. Times are µs; uPlot's x is in seconds.
 */
import 'uplot/dist/uPlot.min.css';
import './chart.css';
import uPlot from 'uplot';
import type { Store } from '../data/store';
import type { Pen } from '../pens/pen';
import { day, timeOfDay, type Window } from '../time/spans';
import { cssColor, currentTheme, lineScale, penColor, penDash } from '../ui/theme';
import { areas, type Area, Axes, type Box } from './axes';
import { drawLimits, drawRange } from './bands';
import { CursorLines, type CursorName, type Cursors } from './cursors';
import { listenForGestures } from './gestures';
import { drawLanes, LANE } from './lanes';
import { Layer } from './layer';
import { Line, type LineOptions, MARK } from './lines';
import { fit, type Layout, normaliser, type Scaling, type Strip, strips } from './scales';
import { timeAxis } from './timeaxis';
import type { Extent } from './trace';

/** More pens than this are drawn as thinner lines: easier to tell apart, and without a graphics card ten times as fast. */
const MANY = 8;

export interface ChartEvents {
  /** the user moved or zoomed */
  readonly onWindow: (window: Window) => void;
  /** the user wants the window before the last move or zoom */
  readonly onBack: () => void;
  /** where the mouse stands, null: nowhere */
  readonly onCursor: (ts: number | null) => void;
  /** a cursor that stays was dragged */
  readonly onCursorMoved?: (name: CursorName, ts: number) => void;
}

interface Lines {
  readonly shown: Line;
  readonly earlier: Line;
}

export class Chart {
  #plot: uPlot | null = null;
  #pens: readonly Pen[] = [];
  #lines = new WeakMap<Pen, Lines>();
  #layer = new Layer();
  /** of what was drawn last: where a store ended, by pen */
  #drawnTo = new Map<Pen, { store: Store; epoch: number; ts: number }>();
  #drawnNow = 0;
  #strips: Strip[] = [];
  #areas: Area[] = [];
  #axes = new Axes();
  #scaling: Scaling = 'auto';
  #layout: Layout = 'overlay';
  #window: Window = { from: 0, to: 1 };
  #now = 0;
  #highlight: Pen | null = null;
  #dots: HTMLElement[] = [];
  #cursorLabel: HTMLElement | null = null;
  #cursorLeft = -1;
  #cursors: Cursors | null = null;
  #cursorLines: CursorLines | null = null;
  #signature = '';

  constructor(
    private readonly host: HTMLElement,
    private readonly events: ChartEvents,
  ) {
    new ResizeObserver(() => this.#resize()).observe(host);
  }

  /** Width of the plot in CSS pixels. */
  get width(): number {
    return this.#plot === null ? this.host.clientWidth : this.#plot.bbox.width / devicePixelRatio;
  }

  get canvas(): HTMLCanvasElement | null {
    return this.#plot?.ctx.canvas ?? null;
  }

  setPens(pens: readonly Pen[], scaling: Scaling, layout: Layout = 'overlay'): void {
    this.#pens = pens;
    this.#scaling = scaling;
    this.#layout = layout;
    this.#build();
  }

  /** Colours have changed. */
  restyle(): void {
    this.#signature = '';
    this.#build();
  }

  highlight(pen: Pen | null): void {
    this.#highlight = pen;
  }

  /** The cursors that stay; null: none. */
  setCursors(cursors: Cursors | null): void {
    this.#cursors = cursors;
    this.#cursorLines?.set(cursors);
  }

  /** Draw a window; `now` is up to where newest states hold. */
  draw(window: Window, now: number): void {
    // on the grid of the columns: a window that moves by whole pixels moves the picture
    const pixel = Math.max(1, Math.round(window.to - window.from)) / this.#columns;
    const by = Math.floor(window.from / pixel) * pixel - window.from;
    this.#window = { from: window.from + by, to: window.to + by };
    this.#now = now;
    const plot = this.#plot;
    if (plot === null) return;
    for (const scale of this.#strips.flatMap((strip) => strip.scales)) fit(scale, this.#scaling, (pen) => this.#extent(pen));
    this.#axes.set(this.#strips, this.#axesFor(plot.width), plot.bbox.height / devicePixelRatio);
    plot.batch(() => {
      plot.setScale('x', { min: this.#window.from / 1e6, max: this.#window.to / 1e6 });
      // the value axes may have become wider
      plot.redraw(false, true);
    });
    this.#placeCursor();
    this.#cursorLines?.place();
  }

  /** Where a value of a pen stands on the canvas, in its pixels; null where it is not seen. */
  locate(pen: Pen, ts: number, value: number): { x: number; y: number } | null {
    const at = this.#place(pen);
    return at === null || this.#plot === null ? null : { x: this.#x(this.#plot.bbox)(ts), y: at.y(value) };
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    if (this.#plot === null) this.#build();
    else this.#plot.setSize({ width, height });
    this.draw(this.#window, this.#now);
  }

  /** Value axes of a strip at the most. */
  #axesFor(width: number): number {
    return width < 520 ? 1 : width < 820 ? 2 : 4;
  }

  get #lanes(): Pen[] {
    return this.#pens.filter((pen) => pen.lane);
  }

  #build(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    this.#strips = strips(this.#pens, this.#layout, this.#scaling);
    const lanes = this.#lanes.length;
    // uPlot's padding is of its axes: a new one only where lanes come or go, or colours change
    const signature = JSON.stringify([lanes, this.#pens.map((pen) => [pen.path, pen.color]), currentTheme()]);
    if (signature === this.#signature && this.#plot !== null) {
      this.draw(this.#window, this.#now);
      return;
    }
    this.#signature = signature;
    this.#plot?.destroy();
    this.#cursorLeft = -1;
    const plot = new uPlot(this.#options(width, height, lanes), [[0, 1], [null, null]], this.host);
    this.#plot = plot;
    plot.root.style.setProperty('--lanes', `${lanes * LANE}px`);
    this.#dots = this.#pens.map((pen) => {
      const dot = document.createElement('div');
      dot.className = 'cursor-dot';
      dot.style.setProperty('--pen', penColor(currentTheme(), pen.color));
      plot.over.append(dot);
      return dot;
    });
    this.#cursorLabel = document.createElement('div');
    this.#cursorLabel.className = 'cursor-label';
    plot.over.append(this.#cursorLabel);
    const target = { window: () => this.#window, width: () => this.width };
    this.#cursorLines = new CursorLines(plot.over, { ...target, onMove: (name, ts) => this.events.onCursorMoved?.(name, ts) });
    this.#cursorLines.set(this.#cursors);
    listenForGestures(plot.over, { ...target, onWindow: this.events.onWindow, onBack: this.events.onBack });
    this.draw(this.#window, this.#now);
  }

  #options(width: number, height: number, lanes: number): uPlot.Options {
    return {
      width,
      height,
      padding: [10 + lanes * LANE, () => this.#axes.right, 0, () => this.#axes.left],
      legend: { show: false },
      scales: { x: { time: true, auto: false }, y: { auto: false, range: [0, 1] } },
      axes: [
        timeAxis(() => this.#window.from),
        { show: false, scale: 'y' },
      ],
      // the stores hold the samples; uPlot only needs some data to be awake
      series: [{}, { scale: 'y', points: { show: false } }],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false, setScale: false } },
      hooks: {
        draw: [(u) => this.#drawAll(u)],
        setCursor: [(u) => this.#moved(u.cursor.left ?? -1)],
      },
    };
  }

  #linesOf(pen: Pen): Lines {
    let lines = this.#lines.get(pen);
    if (lines === undefined) this.#lines.set(pen, (lines = { shown: new Line(), earlier: new Line() }));
    return lines;
  }

  /** Pixel columns of the plot. */
  get #columns(): number {
    return Math.max(1, Math.round(this.width * devicePixelRatio));
  }

  #extent(pen: Pen): Extent | null {
    const lines = this.#linesOf(pen);
    const seen = lines.shown.extent(pen, pen.shown, this.#window, this.#columns);
    if (pen.earlier === null) return seen;
    const earlier = lines.earlier.extent(pen, pen.earlier, this.#window, this.#columns);
    if (seen === null || earlier === null) return seen ?? earlier;
    return { min: Math.min(seen.min, earlier.min), max: Math.max(seen.max, earlier.max) };
  }

  #x(box: Box): (ts: number) => number {
    const perUs = box.width / (this.#window.to - this.#window.from);
    return (ts) => box.left + (ts - this.#window.from) * perUs;
  }

  /** The strip of a pen and how its values become heights there, in pixels of the canvas. */
  #place(pen: Pen): { area: Area; y: (value: number) => number } | null {
    const i = this.#strips.findIndex((strip) => strip.scales.some((scale) => scale.pens.includes(pen)));
    const scale = this.#strips[i]?.scales.find((one) => one.pens.includes(pen));
    const area = this.#areas[i];
    if (scale === undefined || area === undefined) return null;
    const normalise = normaliser(pen, this.#scaling, (of) => this.#extent(of));
    const [low, high] = scale.range;
    return { area, y: (value) => area.top + area.height * (1 - (normalise(value) - low) / (high - low)) };
  }

  #drawAll(u: uPlot): void {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const x = this.#x(bbox);
    this.#areas = areas(bbox, this.#strips.length, ratio);
    this.#axes.draw(ctx, bbox, this.#areas, ratio);
    if (this.#now > this.#window.from && this.#now < this.#window.to) this.#drawNow(u, x(this.#now));
    this.#strips.forEach((strip, i) => this.#inArea(ctx, bbox, this.#areas[i]!, (area) => this.#drawBands(ctx, bbox, strip, area)));
    this.#layer.draw(ctx, bbox, {
      key: this.#lineKey(bbox),
      window: this.#window,
      changedFrom: this.#changedFrom(),
      paint: (own, part) => {
        // round joins take twice the time where there is no GPU
        own.lineJoin = 'bevel';
        this.#strips.forEach((strip, i) => this.#inArea(own, bbox, this.#areas[i]!, () => this.#drawLines(own, strip, x, part)));
      },
    });
    this.#strips.forEach((strip, i) => this.#inArea(ctx, bbox, this.#areas[i]!, (area) => this.#drawMarks(ctx, strip, area, x)));
    drawLanes(ctx, bbox, this.#lanes, { window: this.#window, holdsTo: this.#now, highlight: this.#highlight, x, ratio });
  }

  #inArea(ctx: CanvasRenderingContext2D, box: Box, area: Area, draw: (area: Area) => void): void {
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left, area.top - 4 * ratio, box.width + 4 * ratio, area.height + 8 * ratio);
    ctx.clip();
    draw(area);
    ctx.restore();
  }

  /** What lines look like, but for time. */
  #lineKey(box: Box): string {
    const pens = this.#pens.map((pen) => [pen.path, pen.color, pen.tag.step, this.#scaling === 'percent' ? this.#extent(pen) : null]);
    const scales = this.#strips.map((strip) => strip.scales.map((scale) => [scale.key, scale.range, scale.pens.length]));
    return JSON.stringify([pens, scales, box.left, box.top, box.width, box.height, currentTheme(), this.#highlight?.path, devicePixelRatio]);
  }

  /** From where on lines differ from those of the last frame, in µs. */
  #changedFrom(): number {
    let from = this.#now;
    const drawn = new Map<Pen, { store: Store; epoch: number; ts: number }>();
    for (const pen of this.#pens) {
      for (const store of [pen.shown, pen.earlier]) {
        if (store === null) continue;
        const ts = store.last()?.ts ?? -Infinity;
        const before = this.#drawnTo.get(pen);
        if (store === pen.shown) drawn.set(pen, { store, epoch: store.epoch, ts });
        // an earlier period comes whole, and with others that are compared nothing is kept
        if (store === pen.earlier || before?.store !== store || before.epoch !== store.epoch) from = -Infinity;
        // from its last sample, which has been drawn, or to where its value was held, the line goes on
        else if (before.ts !== ts) from = Math.min(from, before.ts);
        else if (pen.tag.step) from = Math.min(from, this.#drawnNow);
      }
    }
    this.#drawnTo = drawn;
    this.#drawnNow = this.#now;
    return from;
  }

  #drawBands(ctx: CanvasRenderingContext2D, box: Box, strip: Strip, area: Area): void {
    const placed = strip.scales.flatMap((scale) => scale.pens).map((pen) => ({ pen, y: this.#place(pen)!.y }));
    const limited = placed.filter(({ pen }) => pen.limits !== undefined);
    for (const { pen, y } of placed) {
      // of many limits over each other one sees none: then only those of the pen that is pointed at
      if (limited.length <= 2 || pen === this.#highlight) drawLimits(ctx, box, area, pen, y, devicePixelRatio);
      if (placed.length === 1 || pen === this.#highlight) drawRange(ctx, box, area, pen, y);
    }
  }

  #drawLines(ctx: CanvasRenderingContext2D, strip: Strip, x: (ts: number) => number, part: Window): void {
    const ratio = devicePixelRatio;
    for (const pen of strip.scales.flatMap((scale) => scale.pens)) {
      const raised = this.#highlight === pen;
      const options = { ...this.#lineOptions(pen, x), part };
      const lines = this.#linesOf(pen);
      ctx.strokeStyle = ctx.fillStyle = penColor(currentTheme(), pen.color);
      const alpha = this.#highlight !== null && !raised ? 0.35 : 1;
      if (pen.earlier !== null) {
        ctx.globalAlpha = alpha * 0.55;
        ctx.lineWidth = 1.2 * ratio;
        ctx.setLineDash([5 * ratio, 3 * ratio]);
        lines.earlier.draw(ctx, pen, pen.earlier, { ...options, holdsTo: this.#window.to });
      }
      ctx.globalAlpha = alpha;
      ctx.lineWidth = (raised ? 2.6 : this.#pens.length > MANY ? 1 : 1.5) * lineScale() * ratio;
      ctx.setLineDash(penDash(pen.color).map((dash) => dash * ratio));
      lines.shown.draw(ctx, pen, pen.shown, options);
      ctx.setLineDash([]);
    }
    ctx.globalAlpha = 1;
  }

  /** What is bad or uncertain, and dots at the newest samples. */
  #drawMarks(ctx: CanvasRenderingContext2D, strip: Strip, area: Area, x: (ts: number) => number): void {
    const ratio = devicePixelRatio;
    let bottom = area.top + area.height;
    for (const pen of strip.scales.flatMap((scale) => scale.pens)) {
      const options = this.#lineOptions(pen, x);
      const store = pen.shown;
      ctx.fillStyle = penColor(currentTheme(), pen.color);
      if (this.#linesOf(pen).shown.marks(ctx, store, options, bottom)) bottom -= (MARK + 1) * ratio;
      const last = store.length - 1;
      if (pen.history !== null || last < 0 || store.bad(last)) continue;
      ctx.beginPath();
      ctx.arc(x(pen.tag.step ? Math.min(this.#now, this.#window.to) : store.ts(last)), options.y(store.value(last)), (this.#highlight === pen ? 4 : 3) * ratio, 0, 2 * Math.PI);
      ctx.fill();
    }
  }

  #lineOptions(pen: Pen, x: (ts: number) => number): LineOptions {
    return { window: this.#window, holdsTo: this.#now, x, y: this.#place(pen)!.y, columns: this.#columns, ratio: devicePixelRatio };
  }

  #drawNow(u: uPlot, at: number): void {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.strokeStyle = cssColor('--line');
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  #moved(left: number): void {
    if (left === this.#cursorLeft) return;
    this.#cursorLeft = left;
    this.events.onCursor(this.#cursorTs());
    this.#placeCursor();
  }

  #cursorTs(): number | null {
    if (this.#cursorLeft < 0 || this.#plot === null) return null;
    const { from, to } = this.#window;
    return from + (this.#cursorLeft / this.width) * (to - from);
  }

  /** Put dots on the pens where the mouse is, and the time below. */
  #placeCursor(): void {
    const plot = this.#plot;
    if (plot === null) return;
    const ts = this.#cursorTs();
    if (ts !== null) this.events.onCursor(ts);
    const span = this.#window.to - this.#window.from;
    if (this.#cursorLabel !== null) {
      this.#cursorLabel.hidden = ts === null;
      if (ts !== null) {
        const label = span > 86_400e6 ? `${day(ts)} ${timeOfDay(ts)}` : timeOfDay(ts, span < 120e6 ? 3 : 0);
        if (this.#cursorLabel.textContent !== label) this.#cursorLabel.textContent = label;
        const width = this.#cursorLabel.offsetWidth;
        const at = Math.min(this.width - width, Math.max(0, this.#cursorLeft - width / 2));
        this.#cursorLabel.style.transform = `translateX(${at}px)`;
      }
    }
    this.#pens.forEach((pen, i) => {
      const dot = this.#dots[i];
      if (dot === undefined) return;
      const place = ts === null ? null : this.#place(pen);
      const value = ts === null ? null : pen.shown.valueAt(ts, pen.tag.step);
      if (place === null || value === null) {
        dot.hidden = true;
        return;
      }
      const top = place.y(value);
      dot.hidden = top < place.area.top || top > place.area.top + place.area.height;
      dot.style.transform = `translate(${this.#cursorLeft}px, ${(top - plot.bbox.top) / devicePixelRatio}px)`;
    });
  }
}
