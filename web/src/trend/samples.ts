/** Brings the pens the samples that the window shows: the live tail, and, while it is held, its history, also where samples come late into it. */
import type { Clock } from '../data/clock';
import type { Columns } from '../data/protocol';
import type { Stream } from '../data/stream';
import { History } from '../pens/history';
import { LivePens } from '../pens/live';
import type { Pen } from '../pens/pen';
import type { PenSet } from '../pens/penset';
import type { View } from '../time/view';

/** History that is held is fetched anew so long after samples have come that belong into it. */
const LATE_MS = 1000;

export interface SamplesTarget {
  readonly stream: Stream;
  readonly clock: Clock;
  /** up to when the live tail is known, µs */
  readonly knownTo: () => number;
  readonly view: View;
  readonly pens: PenSet;
  /** of the chart, CSS pixels */
  readonly width: () => number;
}

export interface SamplesEvents {
  /** what is seen has changed: at the live edge alone, or anywhere */
  readonly onSamples: (edge: boolean) => void;
  readonly onHistory: () => void;
  readonly onBusy: (busy: boolean) => void;
  /** the server has described a calculated pen */
  readonly onDescribed: () => void;
  readonly onFailed: (error: unknown, again: () => void) => void;
}

export class Samples {
  #live: LivePens;
  #history: History;
  #lateTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly target: SamplesTarget,
    private readonly events: SamplesEvents,
  ) {
    const { stream, clock, knownTo, view, width } = target;
    const { onDescribed, onBusy, onHistory, onFailed } = events;
    this.#live = new LivePens(stream, clock, {
      span: () => view.span,
      width,
      onSamples: (pen, columns, edge) => this.#came(pen, columns, edge),
      onDescribed,
      onLive: () => events.onSamples(false),
      onFailed,
    });
    this.#history = new History({ knownTo, onBusy, onArrived: onHistory, onFailed });
  }

  subscribe(pen: Pen): void {
    this.#live.subscribe(pen);
  }

  unsubscribe(pen: Pen): void {
    this.#live.unsubscribe(pen);
  }

  /** The live window has another span: the backfill's resolution is that of its span. */
  restart(): void {
    this.#live.restart();
  }

  /** Of the window that is held; nothing while it is live. */
  fetchHistory(): void {
    const { view, pens, width } = this.target;
    if (view.held !== null) this.#history.fetch(pens.all, view.held, width());
  }

  /** The window is live again. */
  dropHistory(): void {
    this.#history.cancel();
    for (const pen of this.target.pens.all) pen.history = null;
  }

  #came(pen: Pen, columns: Columns, edge: boolean): void {
    const { held } = this.target.view;
    if (held !== null && columns.ts.some((ts) => ts >= held.from && ts < held.to)) {
      // late or corrected: the window shows what the database holds
      clearTimeout(this.#lateTimer);
      this.#lateTimer = setTimeout(() => this.fetchHistory(), LATE_MS);
    }
    if (pen.shown === pen.live) this.events.onSamples(edge);
  }
}
