/** The history of pens in a window that is held: a coarse picture of it at once, where there is none yet, and a sharp one once the window rests. */
import { byTag, Debounced, fetchRange } from '../data/range';
import type { Columns } from '../data/protocol';
import { Store } from '../data/store';
import { pointsFor, type Window } from '../time/spans';
import type { Pen } from './pen';

/** What is fetched beside the window, as a part of it: for moving a little without waiting. */
const MARGIN = 0.5;
const SHARP_MS = 120;
/** A picture with fewer points than this is not worth showing. */
const COARSE_POINTS = 400;
const COARSE_MS = 60;

export interface HistoryEvents {
  /** up to when the live tail is known, µs */
  readonly knownTo: () => number;
  readonly onBusy: (busy: boolean) => void;
  readonly onArrived: () => void;
  readonly onFailed: (error: unknown, again: () => void) => void;
}

/** Samples of pens in a window, at most so many of each. Throws as fetchRange. */
export async function fetchPens(pens: readonly Pen[], window: Window, points: number, signal?: AbortSignal): Promise<Map<Pen, Columns>> {
  if (pens.length === 0) return new Map();
  const [plain, calculated] = [pens.filter((pen) => pen.expression === null), pens.filter((pen) => pen.expression !== null)];
  const expressions = calculated.map((pen) => pen.expression!);
  const fetched = byTag(await fetchRange(plain.map((pen) => pen.path), window, points, signal, expressions));
  const found = new Map<Pen, Columns>();
  for (const pen of pens) {
    const columns = fetched.get(pen.expression === null ? pen.tag.tag_id : -1 - calculated.indexOf(pen));
    if (columns !== undefined) found.set(pen, columns);
  }
  return found;
}

export class History {
  #coarse = new Debounced(COARSE_MS);
  #sharp = new Debounced(SHARP_MS);

  constructor(private readonly events: HistoryEvents) {}

  /** Fetch for a window, in place of what was being fetched. `width` of the chart in CSS pixels. */
  fetch(pens: readonly Pen[], window: Window, width: number): void {
    this.cancel();
    if (pens.length === 0) return;
    const span = window.to - window.from;
    const resolution = (span * 4) / COARSE_POINTS;
    const unknown = pens.filter((pen) => !pen.recall(window, resolution, this.events.knownTo()));
    if (unknown.length > 0) {
      // what goes wrong here is told of the sharp one
      this.#coarse.run((signal) => this.#get(unknown, window, window, COARSE_POINTS, signal).catch(() => undefined));
    }
    const wide = { from: window.from - span * MARGIN, to: window.to + span * MARGIN };
    this.#sharp.run(async (signal) => {
      this.events.onBusy(true);
      try {
        if (await this.#get([...pens], window, wide, pointsFor(width * (1 + 2 * MARGIN)), signal)) this.#coarse.cancel();
      } catch (error) {
        if (!signal.aborted) this.events.onFailed(error, () => this.fetch(pens, window, width));
      } finally {
        if (!signal.aborted) this.events.onBusy(false);
      }
    });
  }

  cancel(): void {
    this.#coarse.cancel();
    this.#sharp.cancel();
    this.events.onBusy(false);
  }

  async #get(pens: readonly Pen[], window: Window, wide: Window, points: number, signal: AbortSignal): Promise<boolean> {
    const fetched = await fetchPens(pens, wide, points, signal);
    if (signal.aborted) return false;
    for (const pen of pens) {
      const store = new Store();
      const columns = fetched.get(pen);
      if (columns !== undefined) store.add(columns);
      pen.showHistory(store, window.from);
      pen.remember(wide, ((wide.to - wide.from) * 4) / points, store);
    }
    this.events.onArrived();
    return true;
  }
}
