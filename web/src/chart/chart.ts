/**
 * The chart: uPlot for axes, grid, scales and cursor; the pens are drawn from their stores, each with timestamps of its own.
 *
 * Lines share a scale for each unit. States and texts are lanes above them. Times are µs; uPlot's x is in seconds.
 */
import 'uplot/dist/uPlot.min.css';
import './chart.css';
import uPlot from 'uplot';
import { decimalsOfStep, formatNumber, formatSample } from '../ui/format';
import type { Pen } from '../pens/pen';
import { shift, tickLabel, timeOfDay, day, type Window, zoom } from '../time/spans';
import { cssColor, currentTheme, penColor } from '../ui/theme';
import { extent, niceRange, stretches, trace } from './trace';
import { lastLevel, parentPath } from '../tags/tree';

/** Between the ticks of the time axis, in seconds. */
const TIME_STEPS = [
  ...[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60),
  ...[1, 2, 3, 6, 12].map((hours) => hours * 3600),
  ...[1, 2, 7, 14, 28, 91, 182, 365, 730].map((days) => days * 86_400),
];
const LANE = 31;
const LANE_BAND = 17;
const FONT = '11px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

/** Scales fit what is seen, or are the ranges of the tags, or every pen is drawn in per cent of its range. */
export type Scaling = 'auto' | 'range' | 'percent';

export interface ChartEvents {
  /** the user moved or zoomed */
  readonly onWindow: (window: Window) => void;
  /** the user wants the window before the last move or zoom */
  readonly onBack: () => void;
  /** where the cursor stands, null: nowhere */
  readonly onCursor: (ts: number | null) => void;
}

interface Group {
  readonly key: string;
  readonly label: string;
  readonly pens: Pen[];
  range: [number, number];
}

export class Chart {
  #plot: uPlot | null = null;
  #pens: readonly Pen[] = [];
  #groups: Group[] = [];
  #scaling: Scaling = 'auto';
  #window: Window = { from: 0, to: 1 };
  #now = 0;
  #highlight: Pen | null = null;
  #dots: HTMLElement[] = [];
  #cursorLabel: HTMLElement | null = null;
  #cursorLeft = -1;
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

  setPens(pens: readonly Pen[], scaling: Scaling): void {
    this.#pens = pens;
    this.#scaling = scaling;
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

  /** Draw a window; `now` is up to where newest states hold. */
  draw(window: Window, now: number): void {
    this.#window = window;
    this.#now = now;
    const plot = this.#plot;
    if (plot === null) return;
    this.#rangeScales();
    plot.batch(() => {
      for (const group of this.#groups) plot.setScale(group.key, { min: group.range[0], max: group.range[1] });
      plot.setScale('x', { min: window.from / 1e6, max: window.to / 1e6 });
    });
    this.#placeCursor();
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    if (this.#plot === null || this.#axesFor(width) !== this.#axesFor(this.#plot.width)) {
      this.#signature = '';
      this.#build();
    } else {
      this.#plot.setSize({ width, height });
    }
  }

  #axesFor(width: number): number {
    return width < 520 ? 1 : width < 820 ? 2 : 4;
  }

  #group(): Group[] {
    const lines = this.#pens.filter((pen) => !pen.lane);
    if (this.#scaling === 'percent') return [{ key: 'percent', label: '% of range', pens: lines, range: [0, 100] }];
    const groups = new Map<string, Group>();
    for (const pen of lines) {
      // pens without a unit have nothing in common
      const key = pen.tag.unit === null ? `tag ${pen.path}` : `unit ${pen.tag.unit}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { key, label: pen.tag.unit ?? pen.label, pens: [pen], range: [0, 1] });
      else group.pens.push(pen);
    }
    if (groups.size === 0) return [{ key: 'none', label: '', pens: [], range: [0, 1] }];
    return [...groups.values()];
  }

  #build(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    this.#groups = this.#group();
    const lanes = this.#pens.filter((pen) => pen.lane).length;
    // uPlot's scales and axes are fixed once made: a new one only where they change
    const signature = JSON.stringify([this.#groups.map((g) => [g.key, g.pens.length === 1 ? g.pens[0]!.color : -1]), lanes, currentTheme()]);
    if (signature === this.#signature && this.#plot !== null) {
      this.draw(this.#window, this.#now);
      return;
    }
    this.#signature = signature;
    this.#plot?.destroy();
    this.#cursorLeft = -1;
    const shownAxes = this.#axesFor(width);
    const theme = currentTheme();
    const muted = cssColor('--text-2');
    const grid = { stroke: cssColor('--grid'), width: 1 };
    const ticks = { stroke: cssColor('--grid'), width: 1, size: 5 };
    const scales: uPlot.Scales = { x: { time: true, auto: false } };
    const axes: uPlot.Axis[] = [
      {
        stroke: muted,
        font: FONT,
        grid,
        ticks,
        size: 40,
        space: 74,
        incrs: TIME_STEPS,
        values: (_u, splits, _axis, _space, increment) =>
          splits.map((s, i) => {
            // the first that is seen has the date
            const previous = splits[i - 1];
            return tickLabel(Math.round(s * 1e6), increment * 1e6, previous === undefined || previous * 1e6 < this.#window.from ? null : Math.round(previous * 1e6));
          }),
      },
    ];
    this.#groups.forEach((group, i) => {
      scales[group.key] = { auto: false, range: () => [group.range[0], group.range[1]] };
      const color = group.pens.length === 1 ? penColor(theme, group.pens[0]!.color) : muted;
      axes.push({
        scale: group.key,
        show: i < shownAxes && group.label !== '',
        side: i % 2 === 0 ? 3 : 1,
        stroke: color,
        font: FONT,
        label: group.label,
        labelFont: `600 ${FONT}`,
        labelSize: 16,
        labelGap: 0,
        gap: 4,
        size: (_u, values) => 12 + 6.4 * Math.max(3, ...(values ?? []).map((value) => (value ?? '').length)),
        grid: i === 0 ? grid : { show: false },
        ticks,
        values: (_u, splits, _axis, _space, increment) => splits.map((value) => formatNumber(value, decimalsOfStep(increment))),
      });
    });
    const series: uPlot.Series[] = [{}, ...this.#groups.map((group) => ({ scale: group.key, points: { show: false } }))];
    // the stores hold the samples; uPlot only needs some data to be awake
    const data: uPlot.AlignedData = [[0, 1], ...this.#groups.map(() => [null, null])];
    const right = this.#groups.length > 1 && shownAxes > 1 ? 8 : 18;
    const plot = new uPlot(
      {
        width,
        height,
        padding: [10 + lanes * LANE, right, 0, 8],
        legend: { show: false },
        scales,
        axes,
        series,
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false, setScale: false } },
        hooks: {
          draw: [(u) => this.#drawPens(u)],
          setCursor: [(u) => this.#moved(u.cursor.left ?? -1)],
        },
      },
      data,
      this.host,
    );
    this.#plot = plot;
    plot.root.style.setProperty('--lanes', `${lanes * LANE}px`);
    this.#dots = this.#pens.map((pen) => {
      const dot = document.createElement('div');
      dot.className = 'cursor-dot';
      dot.style.setProperty('--pen', penColor(theme, pen.color));
      plot.over.append(dot);
      return dot;
    });
    this.#cursorLabel = document.createElement('div');
    this.#cursorLabel.className = 'cursor-label';
    plot.over.append(this.#cursorLabel);
    this.#listen(plot.over);
    this.draw(this.#window, this.#now);
  }

  #rangeScales(): void {
    for (const group of this.#groups) {
      if (group.key === 'percent' || group.pens.length === 0) continue;
      let min = Infinity;
      let max = -Infinity;
      for (const pen of group.pens) {
        const { low, high } = pen.tag;
        const seen = this.#scaling === 'range' && low !== null && high !== null && low < high ? { min: low, max: high } : extent(pen.shown, this.#window, pen.tag.step);
        if (seen === null) continue;
        min = Math.min(min, seen.min);
        max = Math.max(max, seen.max);
      }
      if (min > max) continue;
      group.range = this.#scaling === 'range' && group.pens.every((pen) => pen.tag.low !== null && pen.tag.high !== null) ? [min, max] : niceRange(min, max);
      if (group.range[0] >= group.range[1]) group.range = niceRange(min, max);
    }
  }

  /** From a value to where it stands on its scale: itself, or its part of the range. */
  #normaliser(pen: Pen): (value: number) => number {
    if (this.#scaling !== 'percent') return (value) => value;
    const { low, high } = pen.tag;
    let range = low !== null && high !== null && low < high ? { min: low, max: high } : extent(pen.shown, this.#window, pen.tag.step);
    if (range === null || range.min === range.max) range = { min: (range?.min ?? 0) - 1, max: (range?.max ?? 0) + 1 };
    const { min, max } = range;
    return (value) => ((value - min) / (max - min)) * 100;
  }

  #drawPens(u: uPlot): void {
    const { ctx, bbox } = u;
    const theme = currentTheme();
    const ratio = devicePixelRatio;
    const window = this.#window;
    const perUs = bbox.width / (window.to - window.from);
    const x = (ts: number): number => bbox.left + (ts - window.from) * perUs;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top - 4 * ratio, bbox.width + 4 * ratio, bbox.height + 8 * ratio);
    ctx.clip();
    // round joins take twice the time where there is no GPU
    ctx.lineJoin = 'bevel';
    if (this.#now > window.from && this.#now < window.to) this.#drawNow(u, x(this.#now));
    for (const group of this.#groups) {
      const [low, high] = group.range;
      const perValue = bbox.height / (high - low);
      for (const pen of group.pens) {
        const normalise = this.#normaliser(pen);
        const y = (value: number): number => bbox.top + bbox.height - (normalise(value) - low) * perValue;
        const store = pen.shown;
        ctx.strokeStyle = ctx.fillStyle = penColor(theme, pen.color);
        const raised = this.#highlight === pen;
        ctx.globalAlpha = this.#highlight !== null && !raised ? 0.35 : 1;
        ctx.lineWidth = (raised ? 2.6 : 1.5) * ratio;
        ctx.beginPath();
        trace(ctx, store, { window, step: pen.tag.step, holdsTo: this.#now, x, y });
        ctx.stroke();
        const last = store.length - 1;
        if (pen.history === null && last >= 0 && !store.bad(last)) {
          ctx.beginPath();
          ctx.arc(x(pen.tag.step ? Math.min(this.#now, window.to) : store.ts(last)), y(store.value(last)), (raised ? 4 : 3) * ratio, 0, 2 * Math.PI);
          ctx.fill();
        }
      }
    }
    ctx.restore();
    this.#drawLanes(u, x);
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

  #drawLanes(u: uPlot, x: (ts: number) => number): void {
    const { ctx, bbox } = u;
    const theme = currentTheme();
    const ratio = devicePixelRatio;
    const text = cssColor('--text');
    const muted = cssColor('--text-2');
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, 0, bbox.width, bbox.top);
    ctx.clip();
    ctx.textAlign = 'left';
    ctx.textBaseline = 'middle';
    let lane = 0;
    for (const pen of this.#pens) {
      if (!pen.lane) continue;
      const top = (4 + lane++ * LANE) * ratio;
      const band = top + 12 * ratio;
      const height = LANE_BAND * ratio;
      const color = penColor(theme, pen.color);
      ctx.globalAlpha = 1;
      ctx.font = scaled(`10px ${FONT.slice(5)}`, ratio);
      ctx.fillStyle = muted;
      const parent = lastLevel(parentPath(pen.path));
      ctx.fillText(parent === '' ? pen.path : `${parent} / ${lastLevel(pen.path)}`, bbox.left + 2 * ratio, top + 5 * ratio);
      ctx.fillStyle = cssColor('--lane');
      ctx.fillRect(bbox.left, band, bbox.width, height);
      ctx.font = scaled(FONT, ratio);
      const raised = this.#highlight === pen;
      for (const stretch of stretches(pen.shown, this.#window, this.#now)) {
        const from = Math.max(bbox.left, x(stretch.from));
        const width = Math.min(bbox.left + bbox.width, x(stretch.to)) - from;
        if (width <= 0) continue;
        const off = pen.tag.kind !== 'text' && pen.shown.value(stretch.at) === 0;
        ctx.globalAlpha = off ? 0.12 : raised ? 0.55 : 0.34;
        ctx.fillStyle = color;
        ctx.fillRect(from, band, Math.max(width, ratio), height);
        ctx.globalAlpha = 1;
        ctx.fillRect(from, band, 2 * ratio, height);
        if (!off) ctx.fillRect(from, band, Math.max(width, ratio), 1.5 * ratio);
        const label = formatSample(pen.tag, pen.shown.at(stretch.at));
        if (ctx.measureText(label).width + 12 * ratio <= width) {
          ctx.fillStyle = off ? muted : text;
          ctx.fillText(label, from + 7 * ratio, band + height / 2 + ratio);
        }
      }
    }
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

  /** Put dots on the pens where the cursor is, and the time above. */
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
    const height = plot.bbox.height / devicePixelRatio;
    this.#pens.forEach((pen, i) => {
      const dot = this.#dots[i];
      if (dot === undefined) return;
      const store = pen.shown;
      const at = ts === null ? -1 : store.before(ts);
      const group = this.#groups.find((g) => g.pens.includes(pen));
      if (ts === null || at < 0 || group === undefined || store.bad(at)) {
        dot.hidden = true;
        return;
      }
      const [low, high] = group.range;
      const top = height * (1 - (this.#normaliser(pen)(this.#valueAt(pen, at, ts)) - low) / (high - low));
      dot.hidden = top < 0 || top > height;
      dot.style.transform = `translate(${this.#cursorLeft}px, ${top}px)`;
    });
  }

  /** On the line that is drawn: between two samples for a pen that is not stepped. */
  #valueAt(pen: Pen, at: number, ts: number): number {
    const store = pen.shown;
    const value = store.value(at);
    if (pen.tag.step || at + 1 >= store.length || store.bad(at + 1)) return value;
    return value + ((store.value(at + 1) - value) * (ts - store.ts(at))) / (store.ts(at + 1) - store.ts(at));
  }

  /** Drag pans, shift-drag selects a stretch to zoom into, the wheel zooms, two fingers pinch, a double click goes back. */
  #listen(over: HTMLElement): void {
    const box = document.createElement('div');
    box.className = 'zoom-box';
    box.hidden = true;
    over.append(box);
    const pointers = new Map<number, number>();
    let origin: { x: number; window: Window; box: boolean } | null = null;
    let pinch: { distance: number; centre: number; window: Window } | null = null;
    const leftOf = (event: MouseEvent): number => event.clientX - over.getBoundingClientRect().left;
    const tsAt = (left: number, window: Window): number => window.from + (left / this.width) * (window.to - window.from);

    over.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      over.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, leftOf(event));
      if (pointers.size === 1) {
        origin = { x: leftOf(event), window: this.#window, box: event.shiftKey };
      } else if (pointers.size === 2) {
        const [a = 0, b = 0] = pointers.values();
        pinch = { distance: Math.max(10, Math.abs(a - b)), centre: (a + b) / 2, window: this.#window };
        origin = null;
      }
    });
    over.addEventListener('pointermove', (event) => {
      if (!pointers.has(event.pointerId)) return;
      pointers.set(event.pointerId, leftOf(event));
      if (pinch !== null && pointers.size === 2) {
        const [a = 0, b = 0] = pointers.values();
        const zoomed = zoom(pinch.window, tsAt(pinch.centre, pinch.window), pinch.distance / Math.max(10, Math.abs(a - b)));
        this.events.onWindow(shift(zoomed, (pinch.centre - (a + b) / 2) / this.width));
      } else if (origin !== null) {
        const by = leftOf(event) - origin.x;
        if (origin.box) {
          const left = Math.max(0, Math.min(origin.x, leftOf(event)));
          const width = Math.min(this.width, Math.max(origin.x, leftOf(event))) - left;
          box.style.left = `${left}px`;
          box.style.width = `${width}px`;
          box.hidden = false;
        } else if (Math.abs(by) > 3 || over.classList.contains('panning')) {
          over.classList.add('panning');
          this.events.onWindow(shift(origin.window, -by / this.width));
        }
      }
    });
    const release = (event: PointerEvent): void => {
      if (!pointers.delete(event.pointerId)) return;
      over.classList.remove('panning');
      pinch = null;
      if (origin?.box === true) {
        box.hidden = true;
        const [a, b] = [origin.x, leftOf(event)].sort((one, other) => one - other) as [number, number];
        const window = origin.window;
        if (event.type === 'pointerup' && b - a > 4) this.events.onWindow({ from: tsAt(Math.max(0, a), window), to: tsAt(Math.min(this.width, b), window) });
      }
      origin = null;
    };
    over.addEventListener('dblclick', () => this.events.onBack());
    over.addEventListener('pointerup', release);
    over.addEventListener('pointercancel', release);
    over.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
        // lines and pages in pixels
        const unit = event.deltaMode === 0 ? 1 : event.deltaMode === 1 ? 20 : 400;
        const delta = (sideways && event.deltaX !== 0 ? event.deltaX : event.deltaY) * unit;
        if (sideways) this.events.onWindow(shift(this.#window, delta / this.width));
        else this.events.onWindow(zoom(this.#window, tsAt(leftOf(event), this.#window), Math.exp(Math.max(-300, Math.min(300, delta)) * 0.0022)));
      },
      { passive: false },
    );
  }
}

function scaled(font: string, ratio: number): string {
  return font.replace(/(\d+(?:\.\d+)?)px/, (_, size: string) => `${Number(size) * ratio}px`);
}
