/** Dashboards without their server: the documents and the last data of their tiles are kept on this device, and brought back. Times are µs. */
import type { Clock } from '../data/clock';
import type { Described } from '../data/documents';
import type { Tag } from '../data/protocol';
import type { ConnectionState, Stream } from '../data/stream';
import { AsOf } from '../offline/asof';
import { forgetRefused, observeForget, onDevice } from '../offline/device';
import { Keeper } from '../offline/keeper';
import { type KeptSeries, MOST_VIEW_BYTES, SAMPLE_BYTES } from '../offline/kept';
import { owner } from '../offline/owner';
import { askForNewer } from '../offline/register';
import type { Dashboard } from './document';
import type { Feed } from './feed';
import type { KeptPeriod, Kpis } from './kpis';

interface BoardState {
  readonly etag: string | null;
  readonly document: Dashboard;
  readonly periods: readonly KeptPeriod[];
}

export interface Restored extends BoardState {
  readonly name: string;
  readonly at: number;
  readonly offset: number;
  readonly tags: readonly Tag[];
  readonly series: readonly KeptSeries[];
  /** all that are kept */
  readonly list: readonly Described[];
}

export interface OfflineTarget {
  readonly clock: Clock;
  readonly stream: Stream;
  readonly feed: Feed;
  readonly kpis: Kpis;
  /** the dashboard that is shown, as the server has it; null: none */
  readonly shown: () => { readonly name: string | null; readonly etag: string | null; readonly document: Dashboard } | null;
}

export class Offline {
  readonly asOf: AsOf;
  #keeper: Keeper;

  constructor(private readonly target: OfflineTarget) {
    this.asOf = new AsOf(target.clock, () => target.stream);
    this.#keeper = new Keeper(() => this.#keep());
    observeForget(() => this.#keeper.stop());
  }

  /** The server has refused the token: what came with it is neither kept for the next one nor shown again. */
  refused(): void {
    this.#keeper.drop();
    void forgetRefused();
  }

  /** Whether what is shown is what was known once. */
  get old(): boolean {
    return this.asOf.at !== null;
  }

  /** Returns whether the server is back. */
  connection(state: ConnectionState): boolean {
    const old = this.old;
    this.asOf.state(state);
    if (!old && this.old) this.#keeper.flush();
    const back = old && !this.old;
    // it may have come back as another version
    if (back) void askForNewer();
    return back;
  }

  /** Data have come. */
  changed(): void {
    if (this.target.stream.state.name === 'live') this.#keeper.changed();
  }

  async #keep(): Promise<void> {
    const { clock, feed, kpis } = this.target;
    const shown = this.target.shown();
    if (shown?.name == null) return;
    const series = feed.keep(Math.floor(MOST_VIEW_BYTES / SAMPLE_BYTES));
    const state: BoardState = { etag: shown.etag, document: shown.document, periods: kpis.keep() };
    const view = { name: shown.name, ids: series.map(({ id }) => id), at: this.asOf.now(), offset: clock.offset, state };
    const tags = [...feed.tags.values()];
    const kept = await onDevice();
    if (kept === null) return;
    const whose = await owner();
    await kept.put(whose, 'dashboards', view, series);
    await kept.putCatalogue(whose, tags);
  }

  /** What is kept of a dashboard; with an empty name of the last one; null: nothing. */
  async restore(name: string): Promise<Restored | null> {
    const kept = await onDevice();
    if (kept === null) return null;
    const whose = await owner();
    const views = await kept.views(whose, 'dashboards');
    const view = name === '' ? views[0] : views.find((one) => one.name === name);
    const series = view === undefined ? null : await kept.series(whose, 'dashboards', view);
    if (view === undefined || series === null) return null;
    const list = views.map((one) => ({ name: one.name, title: (one.state as BoardState).document.title, etag: (one.state as BoardState).etag ?? '' }));
    list.sort((a, b) => (a.name < b.name ? -1 : 1));
    const tags = (await kept.catalogue(whose)) ?? series.map(({ tag }) => tag);
    return { ...(view.state as BoardState), name: view.name, at: view.at, offset: view.offset, tags, series, list };
  }

  /** Whether something is kept that only another token shows. */
  async hasOthers(): Promise<boolean> {
    const kept = await onDevice();
    return kept !== null && kept.others(await owner());
  }
}
