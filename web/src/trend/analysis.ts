/** What is found out about the pens: cursors A and B, statistics of the window or between the cursors, comparison with an earlier period. */
import type { Chart } from '../chart/chart';
import type { CursorName, Cursors } from '../chart/cursors';
import type { Pen } from '../pens/pen';
import type { PenSet } from '../pens/penset';
import type { View } from '../time/view';
import { text } from '../ui/strings';
import { batchBefore, Comparison } from './comparison';
import { openCompareMenu } from './menus';
import type { Problems } from './problems';
import { type Statistics, StatisticsOf } from './statistics';

/** Statistics of a live window are asked for anew so often. */
const STATISTICS_MS = 5000;

export interface AnalysisTarget {
  readonly view: View;
  readonly pens: PenSet;
  readonly chart: Chart;
  readonly problems: Problems;
  /** the server's, µs */
  readonly now: () => number;
  /** what is shown, or what the address says, has changed */
  readonly onChange: () => void;
}

export interface AnalysisState {
  readonly cursors: Cursors | null;
  /** how much earlier the period is that is compared with, µs; 0: none */
  readonly compare: number;
}

export class Analysis {
  #cursors: Cursors | null;
  #compare: number;
  #statistics: ReadonlyMap<Pen, Statistics> | null = null;
  #askedAt = -Infinity;
  #comparison: Comparison;
  #statisticsOf: StatisticsOf;

  constructor(
    private readonly target: AnalysisTarget,
    { cursors, compare }: AnalysisState,
  ) {
    this.#cursors = cursors;
    this.#compare = compare;
    const failed = (error: unknown, again: () => void): void => target.problems.failed(error, 'history', again);
    this.#comparison = new Comparison(() => target.onChange(), failed);
    this.#statisticsOf = new StatisticsOf((found) => {
      if (this.#statistics !== null) this.#statistics = found;
      target.onChange();
    }, failed);
    target.chart.setCursors(cursors);
  }

  get cursors(): Cursors | null {
    return this.#cursors;
  }

  get compare(): number {
    return this.#compare;
  }

  /** null: not wanted */
  get statistics(): ReadonlyMap<Pen, Statistics> | null {
    return this.#statistics;
  }

  /** The window or the pens have changed: what was found out is old. */
  expire(): void {
    this.#askedAt = -Infinity;
  }

  /** As an address says. */
  set({ cursors, compare }: AnalysisState): void {
    this.setCompare(compare);
    this.setCursors(cursors);
  }

  setCursors(cursors: Cursors | null): void {
    this.#cursors = cursors;
    this.target.chart.setCursors(cursors);
    this.expire();
    this.target.onChange();
  }

  toggleCursors(): void {
    const { from, to } = this.target.view.window;
    this.setCursors(this.#cursors === null ? { a: from + (to - from) / 3, b: from + ((to - from) * 2) / 3 } : null);
  }

  moveCursor(name: CursorName, ts: number): void {
    const { from, to } = this.target.view.window;
    this.setCursors({ ...(this.#cursors ?? { a: from, b: to }), [name]: ts });
  }

  toggleStatistics(): void {
    this.#statistics = this.#statistics === null ? new Map() : null;
    if (this.#statistics === null) this.#statisticsOf.cancel();
    this.expire();
    this.target.onChange();
  }

  setCompare(offset: number): void {
    this.#compare = offset;
    this.target.onChange();
  }

  openCompare(anchor: HTMLElement): void {
    openCompareMenu(anchor, this.#compare, this.target.pens.all, (chosen) => {
      if (typeof chosen === 'number') this.setCompare(chosen);
      else void this.#compareBatch(chosen);
    });
  }

  /** At every turn: fetches what is missing. `at` in ms. */
  turn(at: number): void {
    const { view, pens, chart } = this.target;
    this.#comparison.show(pens.all, view.window, this.#compare, chart.width);
    const between = this.#cursors;
    const often = view.held === null && between === null;
    if (this.#statistics === null || at - this.#askedAt < (often ? STATISTICS_MS : Infinity)) return;
    this.#askedAt = at;
    const window = between === null ? view.window : { from: Math.min(between.a, between.b), to: Math.max(between.a, between.b) };
    if (window.from < window.to) this.#statisticsOf.fetch(pens.all, window);
  }

  async #compareBatch(pen: Pen): Promise<void> {
    const { view, now, problems } = this.target;
    try {
      const offset = await batchBefore(pen, Math.min(view.window.to, now()));
      problems.tell(offset === null ? text.noBatch(pen.label) : null, 'pens');
      if (offset !== null) this.setCompare(offset);
    } catch (error) {
      problems.failed(error, 'history', () => void this.#compareBatch(pen));
    }
  }
}
