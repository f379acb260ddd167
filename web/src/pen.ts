/** A pen: a tag on the chart, with what the live tail brought of it and, while paused, what a range query did. */
import type { Columns, Tag } from './protocol';
import { type Sample, Store } from './store';

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
  ) {}

  get path(): string {
    return this.tag.path;
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
