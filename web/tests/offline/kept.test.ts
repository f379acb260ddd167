import 'fake-indexeddb/auto';
import { deleteDB, openDB } from 'idb';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { bytesOf, Kept, type KeptSeries, MOST_BYTES, MOST_VIEW_BYTES, MOST_VIEWS, SAMPLE_BYTES, SHAPE, surplus, type View } from '../../src/offline/kept';
import type { Columns, Tag } from '../../src/data/protocol';

const TAG: Tag = { tag_id: 1, path: 'a/b', kind: 'float', unit: 'bar', description: null, low: null, high: null, step: false, states: null };
let numbers = 0;
const opened: Kept[] = [];

function columns(count: number, text = false): Columns {
  return {
    tagId: new Int32Array(count).fill(1),
    ts: Float64Array.from({ length: count }, (_, i) => i),
    value: Float64Array.from({ length: count }, (_, i) => (i % 7 === 0 ? NaN : i / 3)),
    quality: new Int16Array(count).fill(192),
    text: text ? Array.from({ length: count }, (_, i) => `text ${i}`) : null,
  };
}

function series(count = 3): KeptSeries[] {
  return [{ id: 'pen a/b', tag: TAG, columns: columns(count) }];
}

function view(name: string): View {
  return { name, ids: ['pen a/b'], at: 5, offset: 1, state: { hash: '#' } };
}

async function open(name = `kept ${numbers++}`): Promise<Kept> {
  const kept = await Kept.open(name);
  if (kept === null) throw new Error('no database');
  opened.push(kept);
  return kept;
}

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test('what was put is what is found, column by column', async () => {
  const kept = await open();
  const wanted: KeptSeries[] = [...series(100), { id: 'text', tag: { ...TAG, kind: 'text' }, columns: columns(5, true) }];
  expect(await kept.put('me', 'trend', view('one'), wanted)).toBe(true);
  const [found] = await kept.views('me', 'trend');
  expect(found).toMatchObject(view('one'));
  expect(await kept.series('me', 'trend', found!)).toEqual(wanted);
  expect(await kept.views('me', 'dashboards')).toEqual([]);
});

test('of one owner nothing is found by another, and forgotten alone', async () => {
  const kept = await open();
  await kept.put('me', 'trend', view('one'), series());
  await kept.putCatalogue('me', [TAG]);
  await kept.put('other', 'trend', view('one'), series(4));
  expect(await kept.views('nobody', 'trend')).toEqual([]);
  expect(await kept.series('nobody', 'trend', view('one'))).toBeNull();
  expect(await kept.catalogue('other')).toBeNull();
  expect(await kept.catalogue('me')).toEqual([TAG]);
  expect([await kept.others('me'), await kept.others('nobody')]).toEqual([true, true]);
  await kept.forget('me');
  expect(await kept.views('me', 'trend')).toEqual([]);
  expect(await kept.catalogue('me')).toBeNull();
  expect((await kept.series('other', 'trend', view('one')))?.[0]?.columns.ts.length).toBe(4);
  await kept.forget();
  expect(await kept.views('other', 'trend')).toEqual([]);
});

test('the views that were used least recently go first, by number and by size', async () => {
  const kept = await open();
  for (let i = 0; i < MOST_VIEWS; i++) await kept.put('me', 'trend', view(`${i}`), series(), 1000 + i);
  // looked at: used now
  await kept.series('me', 'trend', view('0'));
  await kept.put('me', 'trend', view('new'), series(), 5000);
  const names = (await kept.views('me', 'trend')).map(({ name }) => name);
  expect(names).toHaveLength(MOST_VIEWS);
  expect(names).toContain('0');
  expect(names).not.toContain('1');
  expect(await kept.series('me', 'trend', view('1'))).toBeNull();
});

test('no choice of what stays is larger than the bounds, and none leaves out what was used later', () => {
  const random = lcg(5);
  for (let round = 0; round < 200; round++) {
    const views = Array.from({ length: Math.floor(random() * 60) }, (_, i) => ({ key: `${i}`, used: Math.floor(random() * 1e6), bytes: random() * MOST_VIEW_BYTES }));
    const gone = new Set(surplus(views));
    const stay = views.filter(({ key }) => !gone.has(key));
    expect(stay.length).toBeLessThanOrEqual(MOST_VIEWS);
    expect(stay.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(MOST_BYTES);
    const oldest = Math.min(...stay.map(({ used }) => used));
    expect(views.filter(({ key, used }) => gone.has(key) && used > oldest)).toEqual([]);
  }
});

test('bytes are counted with their texts', () => {
  expect(bytesOf(columns(10))).toBe(10 * SAMPLE_BYTES);
  expect(bytesOf(columns(10, true))).toBe(10 * SAMPLE_BYTES + 10 * (8 + 2 * 'text 0'.length));
});

describe('what cannot be used is thrown away, and is no error', () => {
  test('a database of a later version', async () => {
    const later = await openDB('later', SHAPE + 7, { upgrade: (db) => void db.createObjectStore('other') });
    later.close();
    const kept = await open('later');
    expect(await kept.put('me', 'trend', view('one'), series())).toBe(true);
  });

  test('a database whose stores are missing', async () => {
    (await openDB('strange', SHAPE, { upgrade: (db) => void db.createObjectStore('other') })).close();
    const kept = await open('strange');
    expect(await kept.put('me', 'trend', view('one'), series())).toBe(true);
  });

  test('no IndexedDB at all, or one that may not be used', async () => {
    vi.stubGlobal('indexedDB', { open: () => { throw new DOMException('not here', 'SecurityError'); }, deleteDatabase: () => { throw new DOMException('not here', 'SecurityError'); } });
    expect(await Kept.open('private')).toBeNull();
  });

  test('a disk that is full', async () => {
    const kept = await open();
    await kept.put('me', 'trend', view('before'), series());
    vi.spyOn(IDBObjectStore.prototype, 'put').mockImplementation(() => {
      throw new DOMException('full', 'QuotaExceededError');
    });
    expect(await kept.put('me', 'trend', view('one'), series())).toBe(false);
    vi.restoreAllMocks();
    expect(await kept.put('me', 'trend', view('one'), series())).toBe(true);
  });

  test('a newer tab takes the database away', async () => {
    const name = `kept ${numbers++}`;
    const kept = await open(name);
    await deleteDB(name);
    expect(await kept.views('me', 'trend')).toEqual([]);
    expect(await kept.put('me', 'trend', view('one'), series())).toBe(false);
  });
});

function lcg(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1664525 + 1013904223) % 2 ** 32) / 2 ** 32;
}
