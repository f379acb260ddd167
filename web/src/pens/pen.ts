/** A pen: a tag or an expression on the chart, with what the live tail brought of it and, while paused, what a range query did. */
import type { Columns, Tag } from '../data/protocol';
import { type Sample, Store } from '../data/store';
import { lastLevel } from '../tags/tree';

export const MAX_PENS = 16;

/** What says which pen is meant. */
export interface PenChoice {
  /** of a tag; of a calculated pen its text */
  readonly path: string;
  readonly calculated?: true;
  /** index in the palette */
  readonly color: number;
}

export class Pen {
  readonly live = new Store();
  /** of the window that is looked at while paused; null: not fetched yet */
  history: Store | null = null;
  #arrivals = new Set<Columns[]>();
  /** its subscription */
  id = -1;

  constructor(
    public tag: Tag,
    /** index in the palette */
    public color: number,
    /** what a calculated pen is calculated by, with its name where it has one; null: a tag */
    readonly expression: string | null = null,
  ) {}

  /** Of a calculated pen its name. */
  get path(): string {
    return this.tag.path;
  }

  get choice(): PenChoice {
    return this.expression === null ? { path: this.path, color: this.color } : { path: this.expression, color: this.color, calculated: true };
  }

  /** What it is called where there is little room. */
  get label(): string {
    if (this.expression === null) return lastLevel(this.path);
    return this.path.length > 28 ? `${this.path.slice(0, 27)}…` : this.path;
  }

  isOf(choice: PenChoice): boolean {
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

  /** Drawn as a lane of named states above the chart, not as a line. */
  get lane(): boolean {
    return this.tag.kind === 'digital' || this.tag.kind === 'bool' || this.tag.kind === 'text';
  }

  /** What is on the screen. */
  get shown(): Store {
    return this.history ?? this.live;
  }
}
