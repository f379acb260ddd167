/** A pen: a tag or an expression on the chart, with what the live tail brought of it and, while paused, what range queries did. */
import { type Limits, limitsOf } from '../data/limits';
import type { Columns, Tag } from '../data/protocol';
import { type Sample, Store } from '../data/store';
import { lastLevel } from '../tags/tree';
import type { Window } from '../time/spans';

export const MAX_PENS = 32;
/** Fetched windows that are remembered, to be shown until a new one has come. */
const REMEMBERED = 6;

/** How a pen is drawn. */
export interface PenStyle {
  /** index in the palette */
  readonly color: number;
  /** on a scale of its own, though others have its unit */
  readonly own?: boolean;
  /** limits of its own, instead of those of the tag: what lies beyond them is marked */
  readonly low?: number;
  readonly high?: number;
}

/** What says which pen is meant, and how it is drawn. */
export interface PenChoice extends PenStyle {
  /** of a tag; of a calculated pen its text */
  readonly path: string;
  readonly calculated?: true;
}

/** Samples of a window, and how far apart they are at least, in µs. */
export interface Fetched {
  readonly window: Window;
  readonly resolution: number;
  readonly store: Store;
}

export class Pen {
  readonly live = new Store();
  /** of the window that is looked at while paused; null: not fetched yet */
  history: Store | null = null;
  /** of an earlier period, moved to the window that it is compared with */
  earlier: Store | null = null;
  #fetched: Fetched[] = [];
  #arrivals = new Set<Columns[]>();
  /** its subscription */
  id = -1;
  style: PenStyle;

  constructor(
    public tag: Tag,
    style: PenStyle | number,
    /** what a calculated pen is calculated by, with its name where it has one; null: a tag */
    readonly expression: string | null = null,
  ) {
    this.style = typeof style === 'number' ? { color: style } : style;
  }

  get color(): number {
    return this.style.color;
  }

  /** Of a calculated pen its name. */
  get path(): string {
    return this.tag.path;
  }

  get choice(): PenChoice {
    const { color, own, low, high } = this.style;
    return {
      path: this.expression ?? this.path,
      color,
      ...(this.expression === null ? {} : { calculated: true }),
      ...(own ? { own } : {}),
      ...(low === undefined ? {} : { low }),
      ...(high === undefined ? {} : { high }),
    };
  }

  /** What it is called where there is little room. */
  get label(): string {
    if (this.expression === null) return lastLevel(this.path);
    return this.path.length > 28 ? `${this.path.slice(0, 27)}…` : this.path;
  }

  isOf(choice: Pick<PenChoice, 'path' | 'calculated'>): boolean {
    return choice.calculated ? this.expression === choice.path : this.expression === null && this.path === choice.path;
  }

  /** Samples of the live tail. */
  take(columns: Columns): void {
    this.live.add(columns);
    for (const arrived of this.#arrivals) arrived.push(columns);
  }

  /** Samples that the server was asked for. What the live tail brings meanwhile may correct them, and is not overwritten by them. */
  async bring(fetched: Promise<Columns>): Promise<void> {
    const arrived: Columns[] = [];
    this.#arrivals.add(arrived);
    try {
      this.live.add(await fetched);
      for (const columns of arrived) this.live.add(columns);
    } finally {
      this.#arrivals.delete(arrived);
    }
  }

  /** Show fetched history. A value that holds since before it, as of a state that seldom changes, is added where the live tail knows it. */
  showHistory(history: Store, from: number): void {
    const holds: Sample | null = history.before(from) < 0 ? this.live.at(this.live.before(from)) : null;
    if (holds !== null) {
      history.add({
        tagId: Int32Array.of(this.tag.tag_id),
        ts: Float64Array.of(holds.ts),
        value: Float64Array.of(holds.value),
        quality: Int16Array.of(holds.quality),
        text: this.tag.kind === 'text' ? [holds.text] : null,
      });
    }
    this.history = history;
  }

  /** Keep what was fetched, for `recall`. */
  remember(window: Window, resolution: number, store: Store): void {
    this.#fetched = [{ window, resolution, store }, ...this.#fetched].slice(0, REMEMBERED);
  }

  /** The best that was fetched for a window: the finest that covers it, else what covers most of it; null: nothing of it. */
  fetched(window: Window): Fetched | null {
    const found = [...this.#fetched].sort((a, b) => covered(window, b.window) - covered(window, a.window) || a.resolution - b.resolution)[0];
    return found === undefined || covered(window, found.window) === 0 ? null : found;
  }

  /**
   * Show the best of what there is for a window, until it has been fetched itself: what the live tail has up to `knownTo`, or what was fetched, where that covers more.
   * Returns whether that shows all of it, in a picture of `resolution` µs or finer.
   */
  recall(window: Window, resolution: number, knownTo = -Infinity): boolean {
    const found = this.fetched(window);
    const [first, last] = [this.live.at(0), this.live.last()];
    const live = first === null || last === null ? 0 : covered(window, { from: first.ts, to: Math.max(last.ts, knownTo) });
    if (live > 0 && live >= (found === null ? 0 : covered(window, found.window))) {
      // from live to held: the live tail goes on showing what it has
      this.history = null;
      return first !== null && first.ts <= window.from;
    }
    if (found === null) return false;
    this.history = found.store;
    return covered(window, found.window) === 1 && found.resolution <= resolution;
  }

  /** Its own limits, or those of the tag. */
  get limits(): Limits | undefined {
    const { low, high } = this.style;
    if (low === undefined && high === undefined) return limitsOf(this.tag);
    return { ...(low === undefined ? {} : { low }), ...(high === undefined ? {} : { high }) };
  }

  /** Drawn as a lane of named states above the chart, not as a line. */
  get lane(): boolean {
    return this.tag.kind === 'digital' || this.tag.kind === 'bool' || this.tag.kind === 'text';
  }

  /** What is on the screen. */
  get shown(): Store {
    return this.history ?? this.live;
  }
}

/** How much of a window lies in another one, from 0 to 1. */
function covered(window: Window, by: Window): number {
  return Math.max(0, Math.min(by.to, window.to) - Math.max(by.from, window.from)) / (window.to - window.from);
}
