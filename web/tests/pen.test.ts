import { expect, test } from 'vitest';
import { Pen } from '../src/pens/pen';
import type { Columns, Tag } from '../src/data/protocol';
import { Store } from '../src/data/store';

const TAG: Tag = { tag_id: 1, path: 'a/b', kind: 'digital', unit: null, description: null, low: null, high: null, step: true, states: null };

function columns(...samples: [ts: number, value: number][]): Columns {
  return {
    tagId: Int32Array.from(samples, () => 1),
    ts: Float64Array.from(samples, ([ts]) => ts),
    value: Float64Array.from(samples, ([, value]) => value),
    quality: Int16Array.from(samples, () => 192),
    text: null,
  };
}

function values(store: Store): [number, number][] {
  return Array.from({ length: store.length }, (_, i) => [store.ts(i), store.value(i)]);
}

test('a correction that comes while a gap is fetched is not overwritten by what was read before it', async () => {
  const pen = new Pen(TAG, 0);
  let answer: (columns: Columns) => void = () => undefined;
  const brought = pen.bring(new Promise<Columns>((resolve) => (answer = resolve)));
  pen.take(columns([20, 99]));
  answer(columns([10, 1], [20, 2]));
  await brought;
  expect(values(pen.live)).toEqual([[10, 1], [20, 99]]);
  pen.take(columns([20, 100]));
  expect(values(pen.live)).toEqual([[10, 1], [20, 100]]);
});

test('a fetch that fails changes nothing and is told', async () => {
  const pen = new Pen(TAG, 0);
  const brought = pen.bring(Promise.reject(new TypeError('no answer')));
  pen.take(columns([20, 1]));
  await expect(brought).rejects.toThrow('no answer');
  expect(values(pen.live)).toEqual([[20, 1]]);
});

test('history begins with the value that holds since before it', () => {
  const pen = new Pen(TAG, 0);
  pen.take(columns([10, 1], [50, 2]));
  const nothing = new Store();
  pen.showHistory(nothing, 40);
  expect(values(pen.shown)).toEqual([[10, 1]]);
  const some = new Store();
  some.add(columns([35, 7], [45, 8]));
  pen.showHistory(some, 40);
  expect(values(pen.shown)).toEqual([[35, 7], [45, 8]]);
  const earlier = new Store();
  pen.showHistory(earlier, 5);
  expect(values(pen.shown)).toEqual([]);
});
