import { describe, expect, test } from 'vitest';
import { BAD_FIRST, BAD_LAST, HAS_BAD, HAS_UNCERTAIN, HAS_VALUE, PixelColumns } from '../src/chart/columns';
import type { Columns } from '../src/data/protocol';
import { Store } from '../src/data/store';

type Row = [ts: number, value: number, quality?: number];

function columns(rows: Row[]): Columns {
  return {
    tagId: Int32Array.from(rows, () => 1),
    ts: Float64Array.from(rows, ([ts]) => ts),
    value: Float64Array.from(rows, ([, value]) => value),
    quality: Int16Array.from(rows, ([, , quality]) => quality ?? 192),
    text: null,
  };
}

function storeOf(rows: Row[]): Store {
  const store = new Store();
  store.add(columns(rows));
  return store;
}

/** Of each column that has any: flags, lowest, highest. */
function seen(of: PixelColumns): number[][] {
  const found: number[][] = [];
  for (let i = 0; i < of.length; i++) {
    const flags = of.flags[i]!;
    if (flags !== 0) found.push([of.ts(i), flags, flags & HAS_VALUE ? of.low[i]! : 0, flags & HAS_VALUE ? of.high[i]! : 0]);
  }
  return found;
}

/** The same numbers at each run. */
function dice(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
}

describe('pixel columns', () => {
  test('have the lowest and highest of their samples, and what is bad', () => {
    const made = new PixelColumns();
    made.update(storeOf([[100, 5], [105, -2], [109, 3], [110, NaN, 0], [115, 7, 64], [120, 1], [125, 9, 0]]), { from: 100, to: 130 }, 3);
    expect(seen(made)).toEqual([
      [105, HAS_VALUE, -2, 5],
      [115, HAS_VALUE | HAS_BAD | BAD_FIRST | HAS_UNCERTAIN, 7, 7],
      [125, HAS_VALUE | HAS_BAD | BAD_LAST, 1, 1],
    ]);
    expect(made.extent()).toEqual({ min: -2, max: 7 });
  });

  test('have their first and last value, to tell a slope from noise', () => {
    const made = new PixelColumns();
    made.update(storeOf([[100, 1], [103, 5], [107, NaN, 0], [109, 4]]), { from: 100, to: 120 }, 2);
    const at = made.index(105);
    expect([made.first[at], made.last[at]]).toEqual([1, 4]);
  });

  test('counted as the window moves and samples come are those counted at once', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = dice(seed);
      const store = new Store();
      const kept = new PixelColumns();
      let now = 1.8e15 + Math.floor(random() * 1e6);
      let span = 1e6 + Math.floor(random() * 1e8);
      for (let step = 0; step < 40; step++) {
        const rows: Row[] = [];
        for (let n = Math.floor(random() * 40); n > 0; n--) {
          now += Math.floor(random() * (span / 300));
          rows.push([now, Math.round(random() * 100), random() < 0.1 ? 0 : random() < 0.1 ? 64 : 192]);
        }
        store.add(columns(rows));
        if (random() < 0.1 && store.length > 0) store.add(columns([[store.ts(Math.floor(random() * store.length)) + (random() < 0.5 ? 0 : 1), 1000 * random()]]));
        if (random() < 0.1) store.trim(now - 1.5 * span);
        if (random() < 0.1) span = 1e6 + Math.floor(random() * 1e8);
        // mostly onwards, as a live window, at times back
        const to = now + (random() < 0.1 ? -span / 3 : Math.floor(random() * 1000));
        const window = { from: to - span, to };
        const fresh = new PixelColumns();
        kept.update(store, window, 200);
        fresh.update(store, window, 200);
        if (seen(kept).join() !== seen(fresh).join()) expect(seen(kept), `seed ${seed}, step ${step}`).toEqual(seen(fresh));
      }
    }
  });
});
