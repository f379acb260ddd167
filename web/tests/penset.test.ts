import { beforeEach, expect, test } from 'vitest';
import type { Tag } from '../src/data/protocol';
import { Store } from '../src/data/store';
import { MAX_PENS, Pen } from '../src/pens/pen';
import { PenSet } from '../src/pens/penset';

const tag = (path: string): Tag => ({ tag_id: 1, path, kind: 'float', unit: null, description: null, low: null, high: null, step: false, states: null });
const many = Array.from({ length: 40 }, (_, i) => tag(`t${i}`));

let told: string[];
let pens: PenSet;

beforeEach(() => {
  told = [];
  pens = new PenSet({ onAdd: (pen) => told.push(`+${pen.path}`), onRemove: (pen) => told.push(`-${pen.path}`), onChange: () => told.push('!') });
});

test('no more are added than there is room for, and none twice', () => {
  expect(pens.add(many.slice(0, 2))).toBe(0);
  expect(pens.add(many)).toBe(40 - MAX_PENS);
  expect(pens.all).toHaveLength(MAX_PENS);
  expect(new Set(pens.all.map((pen) => pen.color)).size).toBe(MAX_PENS);
  expect(pens.full).toBe(true);
  expect(pens.addCalculated('sum: a + b')).toBe(true);
});

test('a colour that has become free is taken again', () => {
  pens.add(many.slice(0, 3));
  pens.remove([pens.all[1]!]);
  pens.add([many[7]!]);
  expect(pens.all.map((pen) => [pen.path, pen.color])).toEqual([['t0', 0], ['t2', 2], ['t7', 1]]);
  expect(told).toEqual(['+t0', '+t1', '+t2', '!', '-t1', '!', '+t7', '!']);
});

test('pens that stay are kept as they are, with their samples; unknown ones are told', () => {
  pens.add(many.slice(0, 2));
  const kept = pens.all[1];
  told.length = 0;
  const unknown = pens.choose([{ path: 't1', color: 5, low: 3 }, { path: 'gone', color: 0 }, { path: 'twice: t1 * 2', calculated: true, color: 6 }], new Map(many.map((one) => [one.path, one])));
  expect(unknown).toEqual(['gone']);
  expect(pens.all[0]).toBe(kept);
  expect(pens.all.map((pen) => pen.choice)).toEqual([{ path: 't1', color: 5, low: 3 }, { path: 'twice: t1 * 2', calculated: true, color: 6 }]);
  expect(told).toEqual(['-t0', '+twice', '!']);
});

test('until a window has been fetched, the finest picture that covers it is shown', () => {
  const pen = new Pen(tag('a'), 0);
  const [all, fine, part] = [new Store(), new Store(), new Store()];
  pen.remember({ from: 0, to: 1000 }, 100, all);
  pen.remember({ from: 400, to: 600 }, 1, fine);
  pen.remember({ from: 500, to: 700 }, 1, part);
  expect(pen.recall({ from: 410, to: 590 }, 5)).toBe(true);
  expect(pen.history).toBe(fine);
  expect(pen.recall({ from: 550, to: 650 }, 5)).toBe(true);
  expect(pen.history).toBe(part);
  // covered by the coarse one alone
  expect(pen.recall({ from: 300, to: 500 }, 5)).toBe(false);
  expect(pen.history).toBe(all);
  expect(pen.recall({ from: 2000, to: 3000 }, 5)).toBe(false);
});
