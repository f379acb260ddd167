/** The trend page without its server: keeps the data of the view on this device, and brings them back. Times are µs. */
import type { Clock } from '../data/clock';
import type { Tag } from '../data/protocol';
import { Store } from '../data/store';
import type { ConnectionState, Stream } from '../data/stream';
import { AsOf } from '../offline/asof';
import { forgetRefused, observeForget, onDevice } from '../offline/device';
import { Keeper } from '../offline/keeper';
import { type KeptSeries, MOST_VIEW_BYTES, SAMPLE_BYTES, type View as KeptView } from '../offline/kept';
import { owner } from '../offline/owner';
import { askForNewer } from '../offline/register';
import type { Pen, PenChoice } from '../pens/pen';
import type { PenSet } from '../pens/penset';
import type { Window } from '../time/spans';
import type { Catalogue } from './catalogue';
import { formatHash, type PageState } from './hash';

/** In the state of a kept view: the address, and of which windows the history of pens is, by their ids. */
interface TrendState {
  readonly hash: string;
  readonly past: Readonly<Record<string, { readonly window: Window; readonly resolution: number }>>;
}

export interface Restored {
  readonly at: number;
  readonly offset: number;
  readonly hash: string;
  readonly tags: readonly Tag[];
  /** give a pen what is kept of it */
  readonly fill: (pen: Pen) => void;
}

export interface OfflineTarget {
  readonly clock: Clock;
  readonly stream: () => Stream;
  readonly pens: PenSet;
  readonly catalogue: Catalogue;
  readonly state: () => PageState;
}

export class Offline {
  readonly asOf: AsOf;
  #keeper: Keeper;

  constructor(private readonly target: OfflineTarget) {
    this.asOf = new AsOf(target.clock, target.stream);
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

  connection(state: ConnectionState): void {
    const old = this.old;
    this.asOf.state(state);
    if (state.name === 'live') {
      this.#keeper.changed();
      // a server that was away may have come back as another version
      if (old) void askForNewer();
    } else if (!old && this.old) this.#keeper.flush();
  }

  /** Samples or pens have changed. */
  changed(): void {
    if (this.target.stream().state.name === 'live') this.#keeper.changed();
  }

  async #keep(): Promise<void> {
    const { clock, catalogue, state } = this.target;
    const pens = this.target.pens.all;
    const shown = state();
    if (pens.length === 0) return;
    const most = Math.floor(MOST_VIEW_BYTES / SAMPLE_BYTES / pens.length / (shown.window === null ? 1 : 2));
    const past: Record<string, { window: Window; resolution: number }> = {};
    const series: KeptSeries[] = [];
    for (const pen of pens) {
      const [id, { tag }] = [idOf(pen.choice), pen];
      series.push({ id, tag, columns: pen.live.columns(tag.tag_id, most) });
      const fetched = shown.window === null ? null : pen.fetched(shown.window);
      if (fetched === null) continue;
      past[id] = { window: fetched.window, resolution: fetched.resolution };
      series.push({ id: `${id} past`, tag, columns: fetched.store.columns(tag.tag_id, most) });
    }
    const ids = pens.map((pen) => idOf(pen.choice));
    const view = { name: nameOf(ids, shown), ids, at: this.asOf.now(), offset: clock.offset, state: { hash: formatHash(shown), past } satisfies TrendState };
    const kept = await onDevice();
    if (kept === null) return;
    const whose = await owner();
    await kept.put(whose, 'trend', view, series);
    await kept.putCatalogue(whose, [...catalogue.tags.values()]);
  }

  /** What is kept of what an address asks for: its view, else another one with most of its pens; null: nothing. */
  async restore(wanted: Pick<PageState, 'span' | 'window'> & { pens: readonly PenChoice[] | null }): Promise<Restored | null> {
    const kept = await onDevice();
    if (kept === null) return null;
    const whose = await owner();
    const view = bestOf(await kept.views(whose, 'trend'), wanted);
    const series = view === null ? null : await kept.series(whose, 'trend', view);
    if (view === null || series === null) return null;
    const { hash, past } = view.state as TrendState;
    const tags = (await kept.catalogue(whose)) ?? series.map(({ tag }) => tag);
    const columnsOf = new Map(series.map(({ id, columns }) => [id, columns]));
    const fill = (pen: Pen): void => {
      const id = idOf(pen.choice);
      const [live, history, of] = [columnsOf.get(id), columnsOf.get(`${id} past`), past[id]];
      // not over what the server has sent meanwhile
      if (live !== undefined && pen.live.length === 0) pen.live.add(live);
      if (history === undefined || of === undefined) return;
      const store = new Store();
      store.add(history);
      pen.remember(of.window, of.resolution, store);
    };
    return { at: view.at, offset: view.offset, hash, tags, fill };
  }

  /** Whether something is kept that only another token shows. */
  async hasOthers(): Promise<boolean> {
    const kept = await onDevice();
    return kept !== null && kept.others(await owner());
  }
}

function idOf({ path, calculated }: PenChoice): string {
  return `${calculated ? 'calc' : 'pen'} ${path}`;
}

/** Of views that are held only the last one of the same pens is kept. */
function nameOf(ids: readonly string[], { span, window }: Pick<PageState, 'span' | 'window'>): string {
  return JSON.stringify([window === null ? span : 'held', ...ids]);
}

/** The view that an address means, or of the others that with most of its pens; without pens in the address the last one. */
export function bestOf(views: readonly KeptView[], wanted: Pick<PageState, 'span' | 'window'> & { pens: readonly PenChoice[] | null }): KeptView | null {
  if (wanted.pens === null) return views[0] ?? null;
  const ids = wanted.pens.map(idOf);
  const name = nameOf(ids, wanted);
  const having = (view: KeptView): number => (view.name === name ? Infinity : ids.filter((id) => view.ids.includes(id)).length);
  const [best] = [...views].sort((a, b) => having(b) - having(a));
  return best !== undefined && having(best) > 0 ? best : null;
}
