/**
 * What the pages keep on this device, in IndexedDB: the last data of each view, and the catalogue. All of it can be had again from the server, so what cannot be read (corrupt, or
 * of another version of this program) is thrown away, and where there is no database (private windows, a full disk) nothing is kept; neither is an error.
 *
 * Bounded: the views that were used least recently go first. Keyed by owner (owner.ts).
 */
import { type DBSchema, deleteDB, type IDBPDatabase, openDB } from 'idb';
import type { Columns, Tag } from '../data/protocol';

/** Of the shape of what is kept; another one replaces all of it. */
export const SHAPE = 1;
export const MOST_VIEWS = 20;
export const MOST_BYTES = 50e6;
/** Of one view. */
export const MOST_VIEW_BYTES = 8e6;
const MOST_CATALOGUE_BYTES = 8e6;
const STORES = ['views', 'series', 'catalogues'] as const;
const CATALOGUE_EVERY_MS = 600_000;
/** ts, value, quality, id of the tag */
export const SAMPLE_BYTES = 22;

export type Page = 'trend' | 'dashboards';

/** Samples of a tag or expression, as columns. */
export interface KeptSeries {
  /** which it is, in the words of its page */
  readonly id: string;
  readonly tag: Tag;
  readonly columns: Columns;
}

export interface View {
  readonly name: string;
  /** all ids of its series, each once */
  readonly ids: readonly string[];
  /** up to when it is known, µs of the server's clock */
  readonly at: number;
  /** the server's clock less that of this device, µs */
  readonly offset: number;
  /** how the page shows it: what it understands itself */
  readonly state: unknown;
}

interface Row extends View {
  readonly key: string;
  readonly owner: string;
  readonly page: Page;
  /** when it was put or read last, ms since 1970 of this device */
  readonly used: number;
  readonly bytes: number;
}

interface Schema extends DBSchema {
  views: { key: string; value: Row };
  series: { key: string; value: readonly KeptSeries[] };
  /** by owner: the catalogue as JSON */
  catalogues: { key: string; value: string };
}

/** Of views, which have to go, so that the others keep within the bounds; those that were used last stay. */
export function surplus(views: readonly { key: string; used: number; bytes: number }[], most = MOST_VIEWS, mostBytes = MOST_BYTES): string[] {
  let bytes = 0;
  return [...views]
    .sort((a, b) => b.used - a.used)
    .filter((view, i) => (bytes += view.bytes) > mostBytes || i >= most)
    .map(({ key }) => key);
}

export function bytesOf({ ts, text }: Columns): number {
  return ts.length * SAMPLE_BYTES + (text === null ? 0 : text.reduce((sum, one) => sum + 8 + 2 * (one?.length ?? 0), 0));
}

export class Kept {
  #catalogue = { owner: '', tags: -1, at: -Infinity };

  private constructor(private readonly db: IDBPDatabase<Schema>) {}

  /** Null where nothing can be kept. `name`: of the database; servers below other paths of the same origin have others. */
  static async open(name: string): Promise<Kept | null> {
    if (!('indexedDB' in globalThis)) return null;
    try {
      return new Kept(await open(name));
    } catch {
      // of a later version, or corrupt
      try {
        await deleteDB(name);
        return new Kept(await open(name));
      } catch {
        return null;
      }
    }
  }

  /** Keep a view in place of the one of its name. Whether that went well. */
  async put(owner: string, page: Page, view: View, series: readonly KeptSeries[], now = Date.now()): Promise<boolean> {
    const bytes = series.reduce((sum, { columns }) => sum + bytesOf(columns), 0);
    if (bytes > 2 * MOST_VIEW_BYTES) return false;
    const row: Row = { ...view, key: keyOf(owner, page, view.name), owner, page, used: now, bytes };
    try {
      await this.#put(row, series);
    } catch {
      // mostly for want of room: once more with less of the others, then not at all
      try {
        await this.#evict(0.25);
        await this.#put(row, series);
      } catch {
        return false;
      }
    }
    await this.#evict(1).catch(() => undefined);
    return true;
  }

  async #put(row: Row, series: readonly KeptSeries[]): Promise<void> {
    const tx = this.db.transaction(['views', 'series'], 'readwrite', { durability: 'relaxed' });
    const puts = [tx.objectStore('views').put(row), tx.objectStore('series').put(series, row.key)];
    // a page that goes away lives no longer than this call
    tx.commit();
    await Promise.all([...puts, tx.done]);
  }

  /** Have no more than this share of the bounds. */
  async #evict(share: number): Promise<void> {
    const tx = this.db.transaction(['views', 'series'], 'readwrite', { durability: 'relaxed' });
    const gone = surplus(await tx.objectStore('views').getAll(), MOST_VIEWS * share, MOST_BYTES * share);
    await Promise.all([...gone.flatMap((key) => [tx.objectStore('views').delete(key), tx.objectStore('series').delete(key)]), tx.done]);
  }

  /** The views of a page, those that were used last first; without their samples. */
  async views(owner: string, page: Page): Promise<View[]> {
    const all = await this.#read(() => this.db.getAll('views'), []);
    return all.filter((row) => row.owner === owner && row.page === page).sort((a, b) => b.used - a.used);
  }

  /** The samples of a view; null: there are none. */
  async series(owner: string, page: Page, { name }: View): Promise<readonly KeptSeries[] | null> {
    const key = keyOf(owner, page, name);
    const found = (await this.#read(() => this.db.get('series', key), undefined)) ?? null;
    if (found !== null) await this.#read(() => this.#touch(key), undefined);
    return found;
  }

  async #touch(key: string): Promise<void> {
    const store = this.db.transaction('views', 'readwrite').store;
    const row = await store.get(key);
    if (row !== undefined) await store.put({ ...row, used: Date.now() });
  }

  /** Seldom, unless tags have come to be: it may be large, and changes little. */
  async putCatalogue(owner: string, tags: readonly Tag[], now = Date.now()): Promise<void> {
    const { owner: whose, tags: count, at } = this.#catalogue;
    if (whose === owner && count === tags.length && now - at < CATALOGUE_EVERY_MS) return;
    this.#catalogue = { owner, tags: tags.length, at: now };
    const text = JSON.stringify(tags);
    if (text.length > MOST_CATALOGUE_BYTES) return;
    try {
      // of tokens before this one none: they are large
      await this.db.clear('catalogues');
      await this.db.put('catalogues', text, owner);
    } catch {
      // for want of room
    }
  }

  async catalogue(owner: string): Promise<Tag[] | null> {
    const text = await this.#read(() => this.db.get('catalogues', owner), undefined);
    return text === undefined ? null : (JSON.parse(text) as Tag[]);
  }

  /** Whether others than this owner have kept something. */
  async others(owner: string): Promise<boolean> {
    return (await this.#read(() => this.db.getAll('views'), [])).some((row) => row.owner !== owner);
  }

  /** Forget what an owner has kept; without, what all have. */
  async forget(owner?: string): Promise<void> {
    try {
      const tx = this.db.transaction(STORES, 'readwrite');
      const [views, data, catalogues] = [tx.objectStore('views'), tx.objectStore('series'), tx.objectStore('catalogues')];
      if (owner === undefined) await Promise.all([views.clear(), data.clear(), catalogues.clear()]);
      else {
        const keys = (await views.getAll()).filter((row) => row.owner === owner).map(({ key }) => key);
        await Promise.all([...keys.flatMap((key) => [views.delete(key), data.delete(key)]), catalogues.delete(owner)]);
      }
      await tx.done;
    } catch {
      // a database that cannot be written to is thrown away as a whole
      await deleteDB(this.db.name).catch(() => undefined);
    }
  }

  async #read<T>(read: () => Promise<T>, otherwise: T): Promise<T> {
    try {
      return await read();
    } catch {
      return otherwise;
    }
  }
}

function keyOf(owner: string, page: Page, name: string): string {
  return `${owner}\n${page}\n${name}`;
}

async function open(name: string): Promise<IDBPDatabase<Schema>> {
  const db = await openDB<Schema>(name, SHAPE, {
    upgrade(db) {
      for (const store of [...db.objectStoreNames]) db.deleteObjectStore(store);
      db.createObjectStore('views', { keyPath: 'key' });
      db.createObjectStore('series');
      db.createObjectStore('catalogues');
    },
    // another tab has a newer version of this program, or throws the database away
    blocking: (_current, _next, event) => (event.target as IDBDatabase).close(),
  });
  if (STORES.every((store) => db.objectStoreNames.contains(store))) return db;
  db.close();
  throw new Error('not a database of ours');
}
