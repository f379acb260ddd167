/** Statistics of pens over a stretch of time, by the server: of all samples, not of those that are drawn. */
import { fetchAggregate, byTag, Debounced } from '../data/range';
import type { Pen } from '../pens/pen';
import type { Window } from '../time/spans';

export interface Statistics {
  readonly mean: number;
  readonly deviation: number;
  readonly min: number;
  readonly max: number;
  /** per cent of the time */
  readonly good: number;
  readonly count: number;
}

const MODES = { mean: 'twa', deviation: 'stddev', min: 'min', max: 'max', good: 'percent_good', count: 'count' } as const;
const REST_MS = 250;

/** Of those pens that are tags with numbers: the server has no aggregates of expressions. Throws as fetchRange. */
export async function fetchStatistics(pens: readonly Pen[], window: Window, signal: AbortSignal): Promise<Map<Pen, Statistics>> {
  const numbers = pens.filter((pen) => !pen.lane && pen.expression === null);
  if (numbers.length === 0) return new Map();
  const names = Object.keys(MODES) as (keyof typeof MODES)[];
  const paths = numbers.map((pen) => pen.path);
  const answers = await Promise.all(names.map((name) => fetchAggregate(paths, window, MODES[name], signal).then(byTag)));
  const of = (pen: Pen): Statistics => Object.fromEntries(names.map((name, i) => [name, answers[i]!.get(pen.tag.tag_id)?.value[0] ?? NaN])) as unknown as Statistics;
  return new Map(numbers.map((pen) => [pen, of(pen)]));
}

/** Keeps the statistics of a window that moves. */
export class StatisticsOf {
  #debounced = new Debounced(REST_MS);

  constructor(
    private readonly onArrived: (found: ReadonlyMap<Pen, Statistics>) => void,
    private readonly onFailed: (error: unknown, again: () => void) => void,
  ) {}

  fetch(pens: readonly Pen[], window: Window): void {
    this.#debounced.run(async (signal) => {
      try {
        const found = await fetchStatistics(pens, window, signal);
        if (!signal.aborted) this.onArrived(found);
      } catch (error) {
        if (!signal.aborted) this.onFailed(error, () => this.fetch(pens, window));
      }
    });
  }

  cancel(): void {
    this.#debounced.cancel();
  }
}
