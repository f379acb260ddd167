/** The two cursors that stay where they are put, A and B: lines over the plot that can be dragged and moved by keys. */
import type { Window } from '../time/spans';
import { text } from '../ui/strings';
import { day, timeOfDay } from '../time/spans';
import { el } from '../ui/dom';

export interface Cursors {
  readonly a: number;
  readonly b: number;
}

export type CursorName = keyof Cursors;

export interface CursorTarget {
  readonly window: () => Window;
  /** of the plot, CSS pixels */
  readonly width: () => number;
  readonly onMove: (name: CursorName, ts: number) => void;
}

/** What an arrow key moves a cursor by, as a part of the window. */
const STEP = 0.002;

export class CursorLines {
  #lines: Record<CursorName, HTMLElement>;
  #between = el('div', { class: 'cursor-between' });
  #at: Cursors | null = null;

  constructor(
    over: HTMLElement,
    private readonly target: CursorTarget,
  ) {
    this.#lines = { a: this.#line('a', over), b: this.#line('b', over) };
    over.append(this.#between, this.#lines.a, this.#lines.b);
    this.place();
  }

  /** µs; null: there are none. */
  set(at: Cursors | null): void {
    this.#at = at;
    this.place();
  }

  /** The window has moved. */
  place(): void {
    const at = this.#at;
    for (const [name, line] of Object.entries(this.#lines) as [CursorName, HTMLElement][]) {
      const left = at === null ? -1 : this.#left(at[name]);
      line.hidden = left < 0 || left > this.target.width();
      line.style.transform = `translateX(${left}px)`;
      if (at !== null) this.#describe(line, at[name]);
    }
    this.#between.hidden = at === null;
    if (at === null) return;
    const [from, to] = [at.a, at.b].map((ts) => Math.max(0, Math.min(this.target.width(), this.#left(ts)))).sort((one, other) => one - other) as [number, number];
    this.#between.style.transform = `translateX(${from}px)`;
    this.#between.style.width = `${to - from}px`;
  }

  /** For screen readers: where it stands, in thousandths of the window, and when that is. */
  #describe(line: HTMLElement, ts: number): void {
    const { from, to } = this.target.window();
    const now = String(Math.round(((ts - from) / (to - from)) * 1000));
    if (line.getAttribute('aria-valuenow') === now) return;
    line.setAttribute('aria-valuenow', now);
    line.setAttribute('aria-valuetext', `${day(ts)} ${timeOfDay(ts, 1)}`);
  }

  #left(ts: number): number {
    const { from, to } = this.target.window();
    return ((ts - from) / (to - from)) * this.target.width();
  }

  #line(name: CursorName, over: HTMLElement): HTMLElement {
    const handle = el('span', { class: 'cursor-handle' }, name.toUpperCase());
    const line = el('div', { class: 'cursor-line', role: 'slider', tabindex: 0, 'aria-label': text.cursor(name.toUpperCase()), 'aria-valuemin': 0, 'aria-valuemax': 1000, 'aria-valuenow': 0, 'data-cursor': name }, handle);
    const move = (event: PointerEvent): void => {
      const { from, to } = this.target.window();
      const left = Math.max(0, Math.min(this.target.width(), event.clientX - over.getBoundingClientRect().left));
      this.target.onMove(name, from + (left / this.target.width()) * (to - from));
    };
    line.addEventListener('pointerdown', (event) => {
      // neither a drag nor a pinch of the chart
      event.stopPropagation();
      line.setPointerCapture(event.pointerId);
    });
    line.addEventListener('dblclick', (event) => event.stopPropagation());
    line.addEventListener('pointermove', (event) => {
      if (line.hasPointerCapture(event.pointerId)) move(event);
    });
    line.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
      if (by === undefined || this.#at === null) return;
      event.preventDefault();
      event.stopPropagation();
      const { from, to } = this.target.window();
      this.target.onMove(name, this.#at[name] + by * (event.shiftKey ? 10 : 1) * (to - from));
    });
    return line;
  }
}
