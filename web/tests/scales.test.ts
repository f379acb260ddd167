import { describe, expect, test } from 'vitest';
import { fit, normaliser, strips, ticks } from '../src/chart/scales';
import type { Tag } from '../src/data/protocol';
import { Pen } from '../src/pens/pen';

function pen(path: string, unit: string | null, more: Partial<Tag> = {}, own = false): Pen {
  const tag: Tag = { tag_id: 1, path, kind: 'float', unit, description: null, low: null, high: null, step: false, states: null, ...more };
  return new Pen(tag, own ? { color: 0, own } : 0);
}

const [t1, t2, p1, none, state] = [pen('t1', '°C'), pen('t2', '°C'), pen('p1', 'bar'), pen('none', null), pen('state', null, { kind: 'digital' })];
const paths = (made: ReturnType<typeof strips>): string[][][] => made.map((strip) => strip.scales.map((scale) => scale.pens.map((one) => one.path)));

describe('strips', () => {
  test('pens of a unit share a scale, those without one share none, states are no lines', () => {
    expect(paths(strips([t1, p1, t2, none, state], 'overlay', 'auto'))).toEqual([[['t1', 't2'], ['p1'], ['none']]]);
    expect(paths(strips([t1, p1, t2, none, state], 'units', 'auto'))).toEqual([[['t1', 't2']], [['p1']], [['none']]]);
    expect(paths(strips([t1, p1, t2, state], 'pens', 'auto'))).toEqual([[['t1']], [['p1']], [['t2']]]);
  });

  test('a scale of its own stands in the strip of its unit', () => {
    const own = pen('own', '°C', {}, true);
    expect(paths(strips([t1, own, p1], 'overlay', 'auto'))).toEqual([[['t1'], ['own'], ['p1']]]);
    expect(paths(strips([t1, own, p1], 'units', 'auto'))).toEqual([[['t1'], ['own']], [['p1']]]);
  });

  test('in per cent all share one scale, but for strips of pens', () => {
    expect(paths(strips([t1, p1], 'units', 'percent'))).toEqual([[['t1', 'p1']]]);
    expect(strips([t1, p1], 'pens', 'percent').map((strip) => strip.scales[0]!.range)).toEqual([[0, 100], [0, 100]]);
  });

  test('there is one without pens too', () => {
    for (const layout of ['overlay', 'units', 'pens'] as const) expect(paths(strips([state], layout, 'auto'))).toEqual([[[]]]);
  });
});

describe('scales', () => {
  test('fit what is seen, or are the ranges of the tags where all have one', () => {
    const ranged = pen('r', '%', { low: 0, high: 100 });
    const [scale] = strips([ranged], 'overlay', 'range')[0]!.scales;
    fit(scale!, 'range', () => ({ min: 40, max: 41 }));
    expect(scale!.range).toEqual([0, 100]);
    fit(scale!, 'auto', () => ({ min: 40, max: 41 }));
    expect(scale!.range[0]).toBeGreaterThan(39);
    expect(scale!.range[1]).toBeLessThan(42);
    const before = [...scale!.range];
    fit(scale!, 'auto', () => null);
    expect(scale!.range).toEqual(before);
  });

  test('per cent is of the range, or of what is seen', () => {
    expect(normaliser(pen('r', '%', { low: -50, high: 50 }), 'percent', () => null)(0)).toBe(50);
    expect(normaliser(t1, 'percent', () => ({ min: 10, max: 20 }))(15)).toBe(50);
    expect(normaliser(t1, 'auto', () => null)(15)).toBe(15);
  });

  test('ticks are round and within', () => {
    expect(ticks([0, 100], 5)).toEqual({ values: [0, 20, 40, 60, 80, 100], step: 20 });
    expect(ticks([-0.25, 1.1], 6).values).toEqual([-0.25, 0, 0.25, 0.5, 0.75, 1]);
    expect(ticks([5, 5], 6).values).toEqual([]);
    for (let i = 0; i < 200; i++) {
      const low = (i - 100) * 3.7 ** ((i % 13) - 6);
      const high = low + 10 ** ((i % 17) - 8);
      const { values } = ticks([low, high], 8);
      expect(values.length).toBeLessThanOrEqual(10);
      const rounding = (high - low) * 1e-6 + Math.abs(low) * 1e-12;
      for (const value of values) {
        expect(value).toBeGreaterThanOrEqual(low - rounding);
        expect(value).toBeLessThanOrEqual(high + rounding);
      }
    }
  });
});
