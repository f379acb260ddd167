/** Draws an earlier period behind the pens: their samples of then, moved to now. */
import { fetchRange, Debounced } from '../data/range';
import type { Columns } from '../data/protocol';
import { Store } from '../data/store';
import { stretches } from '../chart/trace';
import { fetchPens } from '../pens/history';
import type { Pen } from '../pens/pen';
import { DAY, pointsFor, type Window } from '../time/spans';

/** What is fetched beside the window, as a part of it. */
const MARGIN = 0.5;
const REST_MS = 120;
/** How far back an earlier batch is looked for. */
const BATCHES = 7 * DAY;

export class Comparison {
  #debounced = new Debounced(REST_MS);
  /** what was fetched, or is being fetched */
  #have: { pens: readonly Pen[]; offset: number; window: Window } | null = null;

  constructor(
    private readonly onArrived: () => void,
    private readonly onFailed: (error: unknown, again: () => void) => void,
  ) {}

  /** Have the pens show what was `offset` µs before a window; 0: nothing. Called at every frame: fetches what is missing. */
  show(pens: readonly Pen[], window: Window, offset: number, width: number): void {
    const have = this.#have;
    if (offset === 0) {
      if (have === null) return;
      this.#debounced.cancel();
      this.#have = null;
      for (const pen of pens) pen.earlier = null;
      return this.onArrived();
    }
    const span = window.to - window.from;
    const fits = have !== null && have.window.from <= window.from && have.window.to >= window.to && span > 0.4 * (have.window.to - have.window.from) && have.offset === offset;
    if (fits && have.pens.length === pens.length && have.pens.every((pen, i) => pen === pens[i])) return;
    const wide = { from: window.from - span * MARGIN, to: window.to + span * MARGIN };
    this.#have = { pens: [...pens], offset, window: wide };
    this.#debounced.run((signal) => this.#fetch([...pens], wide, offset, width, signal));
  }

  async #fetch(pens: readonly Pen[], wide: Window, offset: number, width: number, signal: AbortSignal): Promise<void> {
    try {
      const then = { from: wide.from - offset, to: wide.to - offset };
      const fetched = await fetchPens(pens, then, pointsFor(width * (1 + 2 * MARGIN)), signal);
      if (signal.aborted) return;
      for (const pen of pens) {
        const store = new Store();
        const columns = fetched.get(pen);
        if (columns !== undefined) store.add(moved(columns, offset));
        pen.earlier = store;
      }
      this.onArrived();
    } catch (error) {
      if (signal.aborted) return;
      this.onFailed(error, () => (this.#have = null));
    }
  }
}

function moved(columns: Columns, by: number): Columns {
  return { ...columns, ts: columns.ts.map((ts) => ts + by) };
}

/** How long before the batch that runs at `at` the one before began, by a tag that changes with each; null if there was none. Throws as fetchRange. */
export async function batchBefore(pen: Pen, at: number): Promise<number | null> {
  const window = { from: at - BATCHES, to: at };
  const store = new Store();
  store.add(await fetchRange([pen.path], window, 100_000));
  const starts = stretches(store, window, at).map((stretch) => stretch.from);
  const [before, last] = starts.slice(-2);
  return before === undefined || last === undefined ? null : last - before;
}
