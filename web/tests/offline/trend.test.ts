import { expect, test } from 'vitest';
import { Store } from '../../src/data/store';
import type { Columns } from '../../src/data/protocol';
import type { View } from '../../src/offline/kept';
import { calculatedTag } from '../../src/pens/expression';
import { Pen } from '../../src/pens/pen';
import { bestOf } from '../../src/trend/offline';

function columns(...ts: number[]): Columns {
  return { tagId: new Int32Array(ts.length).fill(1), ts: Float64Array.from(ts), value: Float64Array.from(ts, (t) => t * 2), quality: new Int16Array(ts.length).fill(192), text: null };
}

function view(span: number | 'held', ...paths: string[]): View {
  const ids = paths.map((path) => `pen ${path}`);
  return { name: JSON.stringify([span, ...ids]), ids, at: 0, offset: 0, state: null };
}

test('the view of an address is its own, else one with most of its pens, else none', () => {
  const pens = (...paths: string[]): { path: string; color: number }[] => paths.map((path, color) => ({ path, color }));
  const views = [view(60, 'a'), view(60, 'a', 'b', 'c'), view(300, 'a', 'b'), view('held', 'a', 'b')];
  const held = { from: 1, to: 2 };
  expect(bestOf(views, { pens: pens('a', 'b'), span: 300, window: null })).toBe(views[2]);
  expect(bestOf(views, { pens: pens('a', 'b'), span: 300, window: held })).toBe(views[3]);
  expect(bestOf(views, { pens: pens('b', 'c'), span: 300, window: null })).toBe(views[1]);
  expect(bestOf(views, { pens: pens('x'), span: 60, window: null })).toBeNull();
  expect(bestOf(views, { pens: null, span: 60, window: null })).toBe(views[0]);
  expect(bestOf([], { pens: null, span: 60, window: null })).toBeNull();
});

test('a copy of samples is what the store holds, thinned to what there is room for', () => {
  const store = new Store();
  store.add(columns(...Array.from({ length: 10_000 }, (_, i) => i)));
  store.trim(1000);
  expect(store.columns(1)).toEqual(columns(...Array.from({ length: 9000 }, (_, i) => i + 1000)));
  const few = store.columns(1, 500);
  expect(few.ts.length).toBeLessThanOrEqual(500);
  expect([few.ts[0], few.ts.at(-1)]).toEqual([1000, 9999]);
  // the store has kept all of its own
  expect(store.length).toBe(9000);
  few.value.fill(0);
  expect(store.value(10)).toBe(2020);
});

test('without the server a window shows the live tail, or what was fetched where that covers more', () => {
  const pen = new Pen({ ...calculatedTag('a'), tag_id: 1 }, 0);
  pen.live.add(columns(...Array.from({ length: 101 }, (_, i) => 1000 + i)));
  const fetched = new Store();
  fetched.add(columns(0, 500, 1050));
  pen.remember({ from: 0, to: 1050 }, 500, fetched);
  pen.recall({ from: 1020, to: 1080 }, 1);
  expect(pen.shown).toBe(pen.live);
  pen.recall({ from: 400, to: 1040 }, 1);
  expect(pen.shown).toBe(fetched);
  // back again: not what was fetched for elsewhere
  expect(pen.recall({ from: 1010, to: 1110 }, 1, 1200)).toBe(true);
  expect(pen.shown).toBe(pen.live);
});
