/** The strip of all there is: small lines from the first sample up to now, with the window on it, which can be dragged and resized. */
import './overview.css';
import { Fingers } from '../chart/touch';
import { extent, trace } from '../chart/trace';
import { Debounced, fetchFirst } from '../data/range';
import { Store } from '../data/store';
import { fetchPens } from '../pens/history';
import type { Pen } from '../pens/pen';
import { clampSpan, day, MINUTE, timeOfDay, type Window, zoom } from '../time/spans';
import { el, setText } from '../ui/dom';
import { text } from '../ui/strings';
import { currentTheme, penColor } from '../ui/theme';

/** Lines at the most: of more one sees none. */
const LINES = 6;
const POINTS = 800;
/** How many tags are asked when they began. */
const ASKED = 4;
const REST_MS = 600;
const REFRESH_MS = 60_000;
/** Of the window on the strip, CSS pixels: narrower ones could not be seen or taken. */
const NARROWEST = 6;

export interface OverviewEvents {
  readonly onWindow: (window: Window) => void;
  readonly onFailed: (error: unknown, again: () => void) => void;
}

export class Overview {
  readonly element: HTMLElement;
  #canvas = el('canvas', { 'aria-hidden': 'true' });
  #brush = el('div', { class: 'brush' }, el('span', { class: 'grip', 'data-edge': 'from' }), el('span', { class: 'grip', 'data-edge': 'to' }));
  #ends = [el('span', { class: 'end' }), el('span', { class: 'end' })] as const;
  #debounced = new Debounced(REST_MS);
  #lines: { pen: Pen; store: Store }[] = [];
  #pens: readonly Pen[] = [];
  #range: Window | null = null;
  #shown: Window = { from: 0, to: 1 };

  constructor(
    private readonly now: () => number,
    private readonly events: OverviewEvents,
  ) {
    this.element = el('div', { class: 'overview', role: 'slider', tabindex: 0, 'aria-label': text.overview, 'aria-valuemin': 0, 'aria-valuemax': 1000, hidden: true }, this.#canvas, this.#brush, ...this.#ends);
    this.#listen();
    new ResizeObserver(() => this.#draw()).observe(this.element);
    setInterval(() => document.visibilityState === 'visible' && this.#fetch(), REFRESH_MS);
  }

  setPens(pens: readonly Pen[]): void {
    const lines = pens.filter((pen) => !pen.lane).slice(0, LINES);
    const same = lines.length === this.#pens.length && lines.every((pen, i) => pen === this.#pens[i]);
    this.#pens = lines;
    if (same) this.#draw();
    else this.#fetch();
  }

  /** The window that the chart shows. */
  show(window: Window): void {
    this.#shown = window;
    const range = this.#all();
    if (range === null) return;
    const width = this.element.clientWidth;
    const [left, right] = [window.from, window.to].map((ts) => ((ts - range.from) / (range.to - range.from)) * width) as [number, number];
    const wide = Math.max(NARROWEST, Math.min(width, right) - Math.max(0, left));
    this.#brush.style.width = `${wide}px`;
    this.#brush.style.transform = `translateX(${Math.max(0, Math.min(width - wide, left))}px)`;
    this.#describe(range);
  }

  /** For screen readers: where the window is, in thousandths of all. */
  #describe(range: Window): void {
    const { from, to } = this.#shown;
    const now = String(Math.round(Math.max(0, Math.min(1, ((from + to) / 2 - range.from) / (range.to - range.from))) * 1000));
    if (this.element.getAttribute('aria-valuenow') === now) return;
    this.element.setAttribute('aria-valuenow', now);
    this.element.setAttribute('aria-valuetext', text.between(`${day(from)} ${timeOfDay(from)}`, `${day(to)} ${timeOfDay(to)}`));
  }

  /** From the first sample to now; null: not known yet. */
  #all(): Window | null {
    return this.#range === null ? null : { from: this.#range.from, to: Math.max(this.#range.to, this.now()) };
  }

  #fetch(): void {
    const pens = this.#pens;
    if (pens.length === 0) {
      this.#debounced.cancel();
      this.element.hidden = true;
      return;
    }
    this.#debounced.run(async (signal) => {
      try {
        const tags = pens.filter((pen) => pen.expression === null).slice(0, ASKED);
        const firsts = await Promise.all(tags.map((pen) => fetchFirst(pen.path, signal)));
        const to = this.now();
        const from = Math.min(...firsts.filter((first) => first !== null), to - MINUTE);
        const fetched = await fetchPens(pens, { from, to }, POINTS, signal);
        if (signal.aborted) return;
        this.#range = { from, to };
        this.#lines = pens.map((pen) => {
          const store = new Store();
          const columns = fetched.get(pen);
          if (columns !== undefined) store.add(columns);
          // of a long past the chart has a coarse picture at once
          pen.remember({ from, to }, ((to - from) * 4) / POINTS, store);
          return { pen, store };
        });
        this.element.hidden = false;
        this.#draw();
      } catch (error) {
        if (!signal.aborted) this.events.onFailed(error, () => this.#fetch());
      }
    });
  }

  #draw(): void {
    const range = this.#range;
    const context = this.#canvas.getContext('2d');
    const { clientWidth, clientHeight } = this.element;
    if (range === null || context === null || clientWidth === 0) return;
    const [width, height] = [clientWidth * devicePixelRatio, clientHeight * devicePixelRatio];
    // setting it clears it
    this.#canvas.width = width;
    this.#canvas.height = height;
    context.lineWidth = devicePixelRatio;
    context.globalAlpha = 0.75;
    for (const { pen, store } of this.#lines) {
      const seen = extent(store, range, pen.tag.step);
      if (seen === null) continue;
      const [low, span] = [seen.min, seen.max - seen.min || 1];
      context.strokeStyle = penColor(currentTheme(), pen.color);
      context.beginPath();
      trace(context, store, {
        window: range,
        step: pen.tag.step,
        holdsTo: range.to,
        x: (ts) => ((ts - range.from) / (range.to - range.from)) * width,
        y: (value) => height * (0.94 - (0.88 * (value - low)) / span),
      });
      context.stroke();
    }
    [range.from, range.to].forEach((ts, i) => setText(this.#ends[i]!, `${day(ts)} ${timeOfDay(ts).slice(0, 5)}`));
    this.show(this.#shown);
  }

  /** The window, moved by keys: by its half, by itself, to either end. */
  #keyed(key: string): Window | null {
    const range = this.#all();
    const { from, to } = this.#shown;
    const span = to - from;
    const moves: Readonly<Record<string, number>> = { ArrowLeft: -span / 2, ArrowDown: -span / 2, ArrowRight: span / 2, ArrowUp: span / 2, PageDown: -span, PageUp: span, Home: -Infinity, End: Infinity };
    const by = moves[key];
    if (range === null || by === undefined) return null;
    const begin = Math.max(range.from, Math.min(range.to - span, from + by));
    return { from: begin, to: begin + span };
  }

  #listen(): void {
    this.element.addEventListener('keydown', (event) => {
      const window = event.ctrlKey || event.metaKey || event.altKey ? null : this.#keyed(event.key);
      if (window === null) return;
      event.preventDefault();
      event.stopPropagation();
      this.events.onWindow(window);
    });
    const fingers = new Fingers();
    let drag: { x: number; edge: string | undefined; window: Window } | null = null;
    /** two fingers: the window is as much wider as they are further apart */
    let pinch: { distance: number; centre: number; window: Window } | null = null;
    const perPixel = (): number => {
      const range = this.#all();
      return range === null ? 0 : (range.to - range.from) / this.element.clientWidth;
    };
    this.element.addEventListener('pointerdown', (event) => {
      const range = this.#all();
      if (range === null || event.button !== 0) return;
      this.element.setPointerCapture(event.pointerId);
      fingers.set(event, event.clientX);
      drag = null;
      pinch = fingers.count === 2 ? { ...fingers.pair(), window: this.#shown } : null;
      if (fingers.count > 1) return;
      let window = this.#shown;
      if (!this.#brush.contains(event.target as Node)) {
        // beside the window: bring its middle there
        const ts = range.from + (event.clientX - this.element.getBoundingClientRect().left) * perPixel();
        const half = (window.to - window.from) / 2;
        window = { from: ts - half, to: ts + half };
        this.events.onWindow(window);
      }
      drag = { x: event.clientX, edge: (event.target as HTMLElement).dataset['edge'], window };
    });
    this.element.addEventListener('pointermove', (event) => {
      if (!fingers.has(event)) return;
      fingers.set(event, event.clientX);
      if (pinch !== null) {
        const { distance, centre } = fingers.pair();
        const { from, to } = pinch.window;
        const wider = zoom(pinch.window, (from + to) / 2, distance / pinch.distance);
        const by = (centre - pinch.centre) * perPixel();
        this.events.onWindow({ from: wider.from + by, to: wider.to + by });
      }
      if (drag === null) return;
      const by = (event.clientX - drag.x) * perPixel();
      const { from, to } = drag.window;
      if (drag.edge === 'from') this.events.onWindow({ from: to - clampSpan(to - from - by), to });
      else if (drag.edge === 'to') this.events.onWindow({ from, to: from + clampSpan(to - from + by) });
      else if (by !== 0) this.events.onWindow({ from: from + by, to: to + by });
    });
    const release = (event: PointerEvent): void => {
      if (!fingers.delete(event)) return;
      const left = fingers.only();
      pinch = null;
      // the finger that stays goes on as one that drags
      drag = left === null ? null : { x: left, edge: undefined, window: this.#shown };
    };
    this.element.addEventListener('pointerup', release);
    this.element.addEventListener('pointercancel', release);
  }
}
