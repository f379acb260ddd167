/** Where the mouse is: a dot on each pen, and the time below. Times are µs. */
import type { Pen } from '../pens/pen';
import { day, timeOfDay, type Window } from '../time/spans';
import { currentTheme, penColor } from '../ui/theme';
import type { Area } from './axes';

export interface MouseCursorTarget {
  readonly window: () => Window;
  /** of the plot, CSS pixels */
  readonly width: () => number;
  /** the strip of a pen, and the height of a value there, CSS pixels from the top of the plot; null: it is not drawn */
  readonly place: (pen: Pen) => { area: Area; y: (value: number) => number } | null;
}

export class MouseCursor {
  #dots: HTMLElement[];
  #label = document.createElement('div');
  /** CSS pixels; negative: the mouse is elsewhere */
  #left = -1;

  constructor(
    over: HTMLElement,
    private readonly pens: readonly Pen[],
    private readonly target: MouseCursorTarget,
  ) {
    this.#dots = pens.map((pen) => {
      const dot = document.createElement('div');
      dot.className = 'cursor-dot';
      dot.style.setProperty('--pen', penColor(currentTheme(), pen.color));
      over.append(dot);
      return dot;
    });
    this.#label.className = 'cursor-label';
    over.append(this.#label);
  }

  /** The instant that the mouse is at; null: it is elsewhere. */
  get ts(): number | null {
    if (this.#left < 0) return null;
    const { from, to } = this.target.window();
    return from + (this.#left / this.target.width()) * (to - from);
  }

  /** Returns whether that is somewhere else than before. */
  moveTo(left: number): boolean {
    if (left === this.#left) return false;
    this.#left = left;
    return true;
  }

  /** Put the dots on the pens and the time below. */
  show(): void {
    const ts = this.ts;
    this.#label.hidden = ts === null;
    if (ts !== null) this.#showTime(ts);
    this.pens.forEach((pen, i) => {
      const dot = this.#dots[i]!;
      const place = ts === null ? null : this.target.place(pen);
      const value = ts === null ? null : pen.shown.valueAt(ts, pen.tag.step);
      if (place === null || value === null) {
        dot.hidden = true;
        return;
      }
      const top = place.y(value);
      dot.hidden = top < place.area.top || top > place.area.top + place.area.height;
      dot.style.transform = `translate(${this.#left}px, ${top}px)`;
    });
  }

  #showTime(ts: number): void {
    const { from, to } = this.target.window();
    const text = to - from > 86_400e6 ? `${day(ts)} ${timeOfDay(ts)}` : timeOfDay(ts, to - from < 120e6 ? 3 : 0);
    if (this.#label.textContent !== text) this.#label.textContent = text;
    const width = this.#label.offsetWidth;
    const at = Math.min(this.target.width() - width, Math.max(0, this.#left - width / 2));
    this.#label.style.transform = `translateX(${at}px)`;
  }
}
