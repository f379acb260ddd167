/** What the bar and the lines below the chart say of what is shown, kept up to date. */
import type { PenSet } from '../pens/penset';
import type { Stream } from '../data/stream';
import type { View } from '../time/view';
import type { Analysis } from './analysis';
import type { Offline } from './offline';
import type { Readout } from './readout';
import type { Toolbar } from './toolbar';

const READOUT_MS = 200;

export interface Told {
  readonly view: View;
  readonly pens: PenSet;
  readonly stream: Stream;
  readonly offline: Offline;
  readonly analysis: () => Analysis;
  readonly toolbar: Toolbar;
  readonly readout: Readout;
}

export class Status {
  #cursor: number | null = null;
  #readAt = -Infinity;

  constructor(private readonly of: Told) {}

  /** Where the mouse is, µs; null: nowhere. */
  get cursor(): number | null {
    return this.#cursor;
  }

  set cursor(ts: number | null) {
    this.#cursor = ts;
    this.expire();
  }

  /** The lines are told anew at the next turn. */
  expire(): void {
    this.#readAt = -Infinity;
  }

  show(): void {
    const { view, offline, analysis, toolbar } = this.of;
    const paused = view.held !== null;
    const { cursors, statistics, compare } = analysis();
    toolbar.update({ shown: view.window, span: view.span, paused, old: offline.old, cursors: cursors !== null, statistics: statistics !== null, compare });
    this.showConnection();
    document.body.classList.toggle('paused', paused);
  }

  showConnection(): void {
    const { view, stream, offline, toolbar } = this.of;
    const { at, age } = offline.asOf;
    toolbar.setState(stream.state, view.held !== null, at === null || age === null ? null : { at, age });
    document.body.dataset['connection'] = stream.state.name;
  }

  /** `at` in ms. */
  turn(at: number): void {
    const { view, analysis, readout } = this.of;
    analysis().turn(at);
    if (at - this.#readAt < READOUT_MS) return;
    this.#readAt = at;
    const { cursors, statistics } = analysis();
    readout.update({ cursor: this.#cursor, window: view.window, live: view.held === null, cursors, statistics });
  }
}
