/** Keeps pens up to date: each has a subscription of the stream, which brings its backfill, then its live tail; what the stream leaves out is fetched. */
import { fetchNewest, fetchRange } from '../data/range';
import type { Clock } from '../data/clock';
import type { Columns, Tag } from '../data/protocol';
import { GOOD } from '../data/store';
import type { Stream } from '../data/stream';
import { pointsFor, SECOND, type Window } from '../time/spans';
import type { Pen } from './pen';

export interface LiveEvents {
  /** of the live window, µs */
  readonly span: () => number;
  /** of the chart, CSS pixels */
  readonly width: () => number;
  /** samples have come: at the live edge, or behind it */
  readonly onSamples: (pen: Pen, columns: Columns, edge: boolean) => void;
  /** the server has described a calculated pen */
  readonly onDescribed: (pen: Pen) => void;
  /** all there is up to now has come */
  readonly onLive: (pen: Pen) => void;
  readonly onFailed: (error: unknown, again: () => void) => void;
}

export class LivePens {
  #open = new Set<Pen>();
  #restart: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly stream: Stream,
    private readonly clock: Clock,
    private readonly events: LiveEvents,
  ) {}

  subscribe(pen: Pen): void {
    this.unsubscribe(pen);
    this.#open.add(pen);
    pen.id = this.stream.subscribe({
      path: pen.expression ?? pen.path,
      calculated: pen.expression !== null,
      onTags: (tags) => this.#described(pen, tags),
      from: () => this.#from(),
      points: () => pointsFor(this.events.width()),
      onRestart: () => pen.live.clear(),
      onColumns: (columns, header) => {
        const edge = header.cursor > 0;
        pen.take(columns);
        if (edge) this.#observe(columns);
        pen.live.trim(this.#from() - this.events.span() * 0.25);
        this.events.onSamples(pen, columns, edge);
      },
      onLive: () => {
        this.events.onLive(pen);
        void this.#fetchHeld(pen);
      },
      onGap: (from, to) => void this.#fillGap(pen, { from, to }),
    });
  }

  unsubscribe(pen: Pen): void {
    if (this.#open.delete(pen)) this.stream.unsubscribe(pen.id);
  }

  /** Backfill anew, at the resolution of another span. */
  restart(): void {
    clearTimeout(this.#restart);
    this.#restart = setTimeout(() => [...this.#open].forEach((pen) => this.subscribe(pen)), 50);
  }

  /** Where the live window begins, and a little before: for what holds as it begins. */
  #from(): number {
    const span = this.events.span();
    return this.clock.now() - span - Math.max(span * 0.05, 90 * SECOND);
  }

  /** The server knows of a calculated pen whether its value holds from sample to sample. */
  #described(pen: Pen, [tag]: readonly Tag[]): void {
    if (pen.expression === null || tag === undefined || tag.step === pen.tag.step) return;
    pen.tag = tag;
    this.events.onDescribed(pen);
  }

  #observe(columns: Columns): void {
    const last = columns.ts.length - 1;
    if (columns.quality[last]! >= GOOD) this.clock.sample(columns.ts[last]!);
  }

  /** The server left samples out: fetch them. */
  async #fillGap(pen: Pen, gap: Window): Promise<void> {
    const window = { from: Math.max(gap.from, this.#from()), to: gap.to };
    try {
      if (window.from >= window.to) return;
      const [paths, expressions] = pen.expression === null ? [[pen.path], []] : [[], [pen.expression]];
      await this.#bring(pen, fetchRange(paths, window, pointsFor(this.events.width()), undefined, expressions));
    } catch (error) {
      this.events.onFailed(error, () => void this.#fillGap(pen, gap));
      // the stream goes on behind the gap and will not tell of it again: a fresh backfill brings what is missing
      if (this.#open.has(pen)) this.subscribe(pen);
    }
  }

  /** A tag that did not change in the whole window, as a state or a setpoint may not for days: what it has been since. */
  async #fetchHeld(pen: Pen): Promise<void> {
    if (pen.live.length > 0 || pen.expression !== null) return;
    try {
      await this.#bring(pen, fetchNewest(pen.path));
    } catch (error) {
      this.events.onFailed(error, () => void this.#fetchHeld(pen));
    }
  }

  async #bring(pen: Pen, fetched: Promise<Columns>): Promise<void> {
    await pen.bring(fetched);
    this.events.onSamples(pen, await fetched, false);
  }
}
