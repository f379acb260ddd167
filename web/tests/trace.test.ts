import { describe, expect, test } from 'vitest';
import { Store } from '../src/data/store';
import { extent, niceRange, stretches, trace } from '../src/chart/trace';

function storeOf(rows: [ts: number, value: number, quality?: number][], text?: string[]): Store {
  const store = new Store();
  store.add({
    tagId: Int32Array.from(rows, () => 1),
    ts: Float64Array.from(rows, ([ts]) => ts),
    value: Float64Array.from(rows, ([, value]) => value),
    quality: Int16Array.from(rows, ([, , quality]) => quality ?? 192),
    text: text ?? null,
  });
  return store;
}

/** The path as text: `M x,y L x,y`. */
function path(store: Store, from: number, to: number, options: { step?: boolean; holdsTo?: number; scale?: number } = {}): string {
  const parts: string[] = [];
  const sink = { moveTo: (x: number, y: number) => parts.push(`M ${x},${y}`), lineTo: (x: number, y: number) => parts.push(`L ${x},${y}`) };
  const scale = options.scale ?? 10;
  trace(sink, store, { window: { from, to }, step: options.step ?? false, holdsTo: options.holdsTo ?? to, x: (ts) => (ts - from) * scale, y: (value) => value });
  return parts.join(' ');
}

describe('a line', () => {
  test('goes through its samples, and on to the next ones outside of the window', () => {
    expect(path(storeOf([[-2, 0], [-1, 1], [0, 2], [1, 3], [2, 4], [3, 5]]), 0, 2)).toBe('M -10,1 L 0,2 L 10,3 L 20,4');
  });

  test('is broken by a bad sample and by one without value', () => {
    expect(path(storeOf([[0, 1], [1, 2], [2, 9, 0], [3, 3], [4, 4]]), 0, 5)).toBe('M 0,1 L 10,2 M 30,3 L 40,4');
    expect(path(storeOf([[0, 1], [1, 2], [2, NaN], [3, 3], [4, 4]]), 0, 5)).toBe('M 0,1 L 10,2 M 30,3 L 40,4');
  });

  test('of one good sample among bad ones is a dot', () => {
    expect(path(storeOf([[0, 1, 0], [1, 2], [2, 3, 0]]), 0, 5)).toBe('M 10,2 L 11.5,2');
  });

  test('has no more than a few points a pixel, and every peak', () => {
    const n = 100_000;
    const rows = Array.from({ length: n }, (_, i) => [i, i === 54_321 ? 99 : Math.sin(i / 50)] as [number, number]);
    const drawn = path(storeOf(rows), 0, n, { scale: 500 / n });
    expect(drawn.split(/[ML]/).length - 1).toBeLessThanOrEqual(500 * 4 + 4);
    expect(drawn).toContain(',99');
  });
});

describe('a stepped pen', () => {
  test('holds until the next sample, and the newest until now', () => {
    expect(path(storeOf([[0, 1], [2, 5]]), 0, 4, { step: true, holdsTo: 3 })).toBe('M 0,1 L 20,1 L 20,5 L 30,5');
  });

  test('holds until it is bad', () => {
    expect(path(storeOf([[0, 1], [2, 5, 0]]), 0, 4, { step: true })).toBe('M 0,1 L 20,1');
  });

  test('with many changes in one pixel keeps the last', () => {
    expect(path(storeOf([[0, 1], [0.01, 7], [0.02, 3], [2, 4]]), 0, 2, { step: true })).toMatch(/L 0\.2,3 L 20,3 L 20,4/);
  });
});

describe('states', () => {
  const at = (store: Store, from: number, to: number, now: number) => stretches(store, { from, to }, now).map((s) => [s.from, s.to, store.value(s.at)]);

  test('equal neighbours are one stretch, and the newest holds until now', () => {
    expect(at(storeOf([[0, 1], [1, 1], [2, 2], [3, 2]]), 0, 10, 5)).toEqual([[0, 2, 1], [2, 5, 2]]);
  });

  test('the one that holds as the window begins is among them', () => {
    expect(at(storeOf([[0, 1], [10, 2]]), 5, 12, 12)).toEqual([[0, 10, 1], [10, 12, 2]]);
  });

  test('none holds where it is bad', () => {
    expect(at(storeOf([[0, 1], [2, 1, 0], [4, 1]]), 0, 10, 5)).toEqual([[0, 2, 1], [4, 5, 1]]);
  });

  test('texts are told apart', () => {
    const store = storeOf([[0, NaN], [1, NaN], [2, NaN]], ['a', 'a', 'b']);
    expect(stretches(store, { from: 0, to: 3 }, 3).map((s) => [s.from, s.to, store.text(s.at)])).toEqual([[0, 2, 'a'], [2, 3, 'b']]);
  });
});

test('the extent is of the good samples that are seen', () => {
  const store = storeOf([[0, 100], [1, 5], [2, -3], [3, 50, 0], [4, 7]]);
  expect(extent(store, { from: 1, to: 5 }, false)).toEqual({ min: -3, max: 7 });
  expect(extent(store, { from: 1, to: 5 }, true)).toEqual({ min: -3, max: 100 });
  expect(extent(store, { from: 10, to: 11 }, false)).toBeNull();
});

test.each([
  [0, 1],
  [-273.15, 1e6],
  [21.48, 21.52],
  [5, 5],
  [0, 0],
  [-1e-7, 1e-7],
  [1e9, 1e9 + 1],
])('the range around %d to %d holds it with little room', (min, max) => {
  const [low, high] = niceRange(min, max);
  expect(low).toBeLessThan(min);
  expect(high).toBeGreaterThan(max);
  expect(high - low).toBeLessThanOrEqual(Math.max((max - min) * 1.4, Math.abs(max) * 0.05, 1));
});
