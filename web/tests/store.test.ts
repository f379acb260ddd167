import { describe, expect, test } from 'vitest';
import type { Columns } from '../src/data/protocol';
import { MAX_SAMPLES, Store } from '../src/data/store';

function columns(rows: [ts: number, value: number, quality?: number, text?: string][]): Columns {
  return {
    tagId: Int32Array.from(rows, () => 1),
    ts: Float64Array.from(rows, ([ts]) => ts),
    value: Float64Array.from(rows, ([, value]) => value),
    quality: Int16Array.from(rows, ([, , quality]) => quality ?? 192),
    text: rows.some((row) => row[3] !== undefined) ? rows.map((row) => row[3] ?? null) : null,
  };
}

function held(store: Store): [number, number][] {
  return Array.from({ length: store.length }, (_, i) => [store.ts(i), store.value(i)]);
}

function storeOf(...rows: [number, number][]): Store {
  const store = new Store();
  store.add(columns(rows));
  return store;
}

describe('adding', () => {
  test('a later sample with the same timestamp wins', () => {
    const store = storeOf([1, 10], [2, 20], [3, 30]);
    store.add(columns([[2, 21]]));
    expect(held(store)).toEqual([[1, 10], [2, 21], [3, 30]]);
  });

  test('samples that come late find their place, in any order', () => {
    const store = storeOf([10, 1], [20, 2], [30, 3]);
    store.add(columns([[25, 5], [5, 4], [30, 6], [35, 7], [5, 8]]));
    expect(held(store)).toEqual([[5, 8], [10, 1], [20, 2], [25, 5], [30, 6], [35, 7]]);
  });

  test('it holds what a map by timestamp holds, whatever comes', () => {
    const random = lcg(7);
    const store = new Store();
    const truth = new Map<number, number>();
    for (let round = 0; round < 200; round++) {
      const rows = Array.from({ length: 1 + Math.floor(random() * 40) }, () => [Math.floor(random() * 3000), random()] as [number, number]);
      store.add(columns(rows));
      for (const [ts, value] of rows) truth.set(ts, value);
    }
    expect(held(store)).toEqual([...truth].sort(([a], [b]) => a - b));
  });

  test('texts stay with their samples as the store grows and is trimmed', () => {
    const store = new Store();
    for (let i = 0; i < 5000; i++) {
      store.add(columns([[i, NaN, 192, `t${i}`]]));
      store.trim(i - 100);
    }
    store.add(columns([[4990.5, NaN, 192, 'late']]));
    expect(store.length).toBeLessThan(110);
    for (let i = 0; i < store.length; i++) expect(store.text(i)).toBe(store.ts(i) === 4990.5 ? 'late' : `t${store.ts(i)}`);
  });
});

test('trimming keeps the sample that holds at the beginning', () => {
  const store = storeOf([1, 10], [2, 20], [3, 30], [4, 40]);
  store.trim(2.5);
  expect(held(store)).toEqual([[2, 20], [3, 30], [4, 40]]);
  store.trim(3);
  expect(held(store)).toEqual([[3, 30], [4, 40]]);
  store.trim(100);
  expect(held(store)).toEqual([[4, 40]]);
});

test('the newest at or before an instant is found', () => {
  const store = storeOf([10, 1], [20, 2]);
  expect([5, 10, 15, 20, 25].map((ts) => store.before(ts))).toEqual([-1, 0, 0, 1, 1]);
  expect([5, 10, 15, 20, 25].map((ts) => store.lowerBound(ts))).toEqual([0, 0, 1, 1, 2]);
});

test('bad: by quality, or without number and text', () => {
  const store = new Store();
  store.add(columns([[1, 5, 0], [2, 5, 63], [3, 5, 64], [4, NaN, 192], [5, NaN, 192, 'x']]));
  expect([0, 1, 2, 3, 4].map((i) => store.bad(i))).toEqual([true, true, false, true, false]);
});

test('memory is bounded, and thinning keeps peaks and breaks', () => {
  const store = new Store();
  const n = MAX_SAMPLES + 1;
  const rows = Array.from({ length: n }, (_, i) => [i, i === 777 ? 1e6 : i === 60_001 ? -1e6 : Math.sin(i), i === 5000 ? 0 : 192] as [number, number, number]);
  store.add(columns(rows));
  expect(store.length).toBeLessThanOrEqual(MAX_SAMPLES / 2 + 10);
  expect(store.at(store.before(777))?.value).toBe(1e6);
  expect(store.at(store.before(60_001))?.value).toBe(-1e6);
  expect(store.bad(store.before(5000))).toBe(true);
  expect(store.last()?.ts).toBe(n - 1);
});

/** The same numbers at every run. */
function lcg(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
}
