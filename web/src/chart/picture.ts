/** What is drawn of the pens within the plot: value axes, bands, lines, marks and lanes. Times are µs, places are pixels of the canvas. */
import type { Pen } from '../pens/pen';
import type { Window } from '../time/spans';
import { cssColor, currentTheme, lineScale, penColor, penDash } from '../ui/theme';
import { type Area, areas, Axes, type Box } from './axes';
import { drawLimits, drawRange } from './bands';
import { Drawn } from './drawn';
import { drawLanes } from './lanes';
import { Layer } from './layer';
import { Line, type LineOptions, MARK } from './lines';
import { fit, type Layout, normaliser, type Scaling, type Strip, strips } from './scales';
import type { Extent } from './trace';

/** More pens than this are drawn as thinner lines: easier to tell apart, and without a graphics card ten times as fast. */
const MANY = 8;

interface Lines {
  readonly shown: Line;
  readonly earlier: Line;
}

/** The strip of a pen, and how its values become heights there. */
export interface Place {
  readonly area: Area;
  readonly y: (value: number) => number;
}

export class Picture {
  readonly axes = new Axes();
  /** the pen that is pointed at */
  highlight: Pen | null = null;
  #pens: readonly Pen[] = [];
  #strips: Strip[] = [];
  #areas: Area[] = [];
  #scaling: Scaling = 'auto';
  #lines = new WeakMap<Pen, Lines>();
  #layer = new Layer();
  #drawn = new Drawn();
  #window: Window = { from: 0, to: 1 };
  #now = 0;
  #columns = 1;

  setPens(pens: readonly Pen[], scaling: Scaling, layout: Layout): void {
    this.#pens = pens;
    this.#scaling = scaling;
    this.#strips = strips(pens, layout, scaling);
  }

  get lanes(): Pen[] {
    return this.#pens.filter((pen) => pen.lane);
  }

  /** Look at a window; newest states hold up to `now`. Scales follow. `columns`: of the plot, in pixels; `width` and `height` of it in CSS pixels. */
  look(window: Window, now: number, columns: number, width: number, height: number): void {
    this.#window = window;
    this.#now = now;
    this.#columns = columns;
    for (const scale of this.#strips.flatMap((strip) => strip.scales)) fit(scale, this.#scaling, (pen) => this.#extent(pen));
    this.axes.set(this.#strips, axesFor(width), height);
  }

  /** From an instant to where it stands. */
  x(box: Box): (ts: number) => number {
    const perUs = box.width / (this.#window.to - this.#window.from);
    return (ts) => box.left + (ts - this.#window.from) * perUs;
  }

  /** Where values of a pen stand; null where it is not drawn as a line. */
  place(pen: Pen): Place | null {
    const i = this.#strips.findIndex((strip) => strip.scales.some((scale) => scale.pens.includes(pen)));
    const scale = this.#strips[i]?.scales.find((one) => one.pens.includes(pen));
    const area = this.#areas[i];
    if (scale === undefined || area === undefined) return null;
    const normalise = normaliser(pen, this.#scaling, (of) => this.#extent(of));
    const [low, high] = scale.range;
    return { area, y: (value) => area.top + area.height * (1 - (normalise(value) - low) / (high - low)) };
  }

  draw(ctx: CanvasRenderingContext2D, box: Box): void {
    const ratio = devicePixelRatio;
    const x = this.x(box);
    // wider value axes may have made the plot narrower
    this.#columns = Math.max(1, Math.round(box.width));
    this.#areas = areas(box, this.#strips.length, ratio);
    this.axes.draw(ctx, box, this.#areas, ratio);
    if (this.#now > this.#window.from && this.#now < this.#window.to) drawNow(ctx, box, x(this.#now));
    this.#eachStrip(ctx, box, (strip, area) => this.#drawBands(ctx, box, strip, area));
    this.#layer.draw(ctx, box, {
      key: this.#lineKey(box),
      window: this.#window,
      changedFrom: this.#drawn.changedFrom(this.#pens, this.#now),
      paint: (own, part) => {
        // round joins take twice the time where there is no GPU
        own.lineJoin = 'bevel';
        this.#eachStrip(own, box, (strip) => this.#drawLines(own, strip, x, part));
      },
    });
    this.#eachStrip(ctx, box, (strip, area) => this.#drawMarks(ctx, strip, area, x));
    drawLanes(ctx, box, this.lanes, { window: this.#window, holdsTo: this.#now, highlight: this.highlight, x, ratio });
  }

  #eachStrip(ctx: CanvasRenderingContext2D, box: Box, draw: (strip: Strip, area: Area) => void): void {
    const ratio = devicePixelRatio;
    this.#strips.forEach((strip, i) => {
      const area = this.#areas[i]!;
      ctx.save();
      ctx.beginPath();
      ctx.rect(box.left, area.top - 4 * ratio, box.width + 4 * ratio, area.height + 8 * ratio);
      ctx.clip();
      draw(strip, area);
      ctx.restore();
    });
  }

  #linesOf(pen: Pen): Lines {
    let lines = this.#lines.get(pen);
    if (lines === undefined) this.#lines.set(pen, (lines = { shown: new Line(), earlier: new Line() }));
    return lines;
  }

  #extent(pen: Pen): Extent | null {
    const lines = this.#linesOf(pen);
    const seen = lines.shown.extent(pen, pen.shown, this.#window, this.#columns);
    if (pen.earlier === null) return seen;
    const earlier = lines.earlier.extent(pen, pen.earlier, this.#window, this.#columns);
    if (seen === null || earlier === null) return seen ?? earlier;
    return { min: Math.min(seen.min, earlier.min), max: Math.max(seen.max, earlier.max) };
  }

  /** What lines look like, but for time. */
  #lineKey(box: Box): string {
    const pens = this.#pens.map((pen) => [pen.path, pen.color, pen.tag.step, this.#scaling === 'percent' ? this.#extent(pen) : null]);
    const scales = this.#strips.map((strip) => strip.scales.map((scale) => [scale.key, scale.range, scale.pens.length]));
    return JSON.stringify([pens, scales, box.left, box.top, box.width, box.height, currentTheme(), this.highlight?.path, devicePixelRatio]);
  }

  #drawBands(ctx: CanvasRenderingContext2D, box: Box, strip: Strip, area: Area): void {
    const placed = strip.scales.flatMap((scale) => scale.pens).map((pen) => ({ pen, y: this.place(pen)!.y }));
    const limited = placed.filter(({ pen }) => pen.limits !== undefined);
    for (const { pen, y } of placed) {
      // of many limits over each other one sees none: then only those of the pen that is pointed at
      if (limited.length <= 2 || pen === this.highlight) drawLimits(ctx, box, area, pen, y, devicePixelRatio);
      if (placed.length === 1 || pen === this.highlight) drawRange(ctx, box, area, pen, y);
    }
  }

  #drawLines(ctx: CanvasRenderingContext2D, strip: Strip, x: (ts: number) => number, part: Window): void {
    const ratio = devicePixelRatio;
    for (const pen of strip.scales.flatMap((scale) => scale.pens)) {
      const raised = this.highlight === pen;
      const options = { ...this.#lineOptions(pen, x), part };
      const lines = this.#linesOf(pen);
      ctx.strokeStyle = ctx.fillStyle = penColor(currentTheme(), pen.color);
      const alpha = this.highlight !== null && !raised ? 0.35 : 1;
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
      ctx.arc(x(pen.tag.step ? Math.min(this.#now, this.#window.to) : store.ts(last)), options.y(store.value(last)), (this.highlight === pen ? 4 : 3) * ratio, 0, 2 * Math.PI);
      ctx.fill();
    }
  }

  #lineOptions(pen: Pen, x: (ts: number) => number): LineOptions {
    return { window: this.#window, holdsTo: this.#now, x, y: this.place(pen)!.y, columns: this.#columns, ratio: devicePixelRatio };
  }
}

/** Value axes of a strip at the most. */
function axesFor(width: number): number {
  return width < 520 ? 1 : width < 820 ? 2 : 4;
}

function drawNow(ctx: CanvasRenderingContext2D, box: Box, at: number): void {
  ctx.save();
  ctx.strokeStyle = cssColor('--line');
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(at, box.top);
  ctx.lineTo(at, box.top + box.height);
  ctx.stroke();
  ctx.restore();
}
