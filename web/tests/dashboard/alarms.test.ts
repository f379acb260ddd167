import { expect, test } from 'vitest';
import { alarmsOf, sorted } from '../../src/dashboard/alarms';
import { judgeRatio } from '../../src/dashboard/ratio';
import { judge, limitsOf, zonesOf } from '../../src/data/limits';
import type { AlarmRule } from '../../src/dashboard/document';
import type { Tag } from '../../src/data/protocol';
import { Store } from '../../src/data/store';

const TAG: Tag = { tag_id: 1, path: 'a/b', kind: 'float', unit: 'bar', description: null, low: 0, high: 10, step: false, states: null };
const PUMP: Tag = { ...TAG, kind: 'digital', step: true, low: null, high: null, states: { '0': 'stopped', '3': 'fault' } };

function store(...samples: [ts: number, value: number, quality?: number][]): Store {
  const made = new Store();
  made.add({
    tagId: Int32Array.from(samples, () => 1),
    ts: Float64Array.from(samples, ([ts]) => ts),
    value: Float64Array.from(samples, ([, value]) => value),
    quality: Int16Array.from(samples, ([, , quality]) => quality ?? 192),
    text: null,
  });
  return made;
}

const times = (rule: Omit<AlarmRule, 'tags'>, tag: Tag, of: Store, from = 0): [number, number | null][] => alarmsOf({ tags: 'a/b', ...rule }, tag, of, from).map(({ since, until }) => [since, until]);

test('without a condition it is the range of the tag that counts', () => {
  expect(times({}, TAG, store([1, 5], [2, 11], [3, 12], [4, 9], [5, -1]))).toEqual([[2, 4], [5, null]]);
});

test('limits of a rule, and names of states', () => {
  expect(times({ above: 8, below: 2 }, TAG, store([1, 5], [2, 8], [3, 8.1], [4, 1.9], [5, 2]))).toEqual([[3, 5]]);
  expect(times({ states: ['fault'] }, PUMP, store([1, 0], [2, 3], [6, 0]))).toEqual([[2, 6]]);
});

test('a bad sample neither begins nor ends an alarm, but where that is asked for', () => {
  const of = store([1, 11], [2, NaN, 0], [3, 12], [4, 5], [5, NaN, 0], [6, 5]);
  expect(times({}, TAG, of)).toEqual([[1, 4]]);
  expect(times({ bad: true }, TAG, of)).toEqual([[2, 3], [5, 6]]);
});

test('an alarm that began before the span is on with what is known of its beginning, and one that ended before it is gone', () => {
  const of = store([1, 11], [3, 5], [10, 12]);
  expect(times({}, TAG, of, 4)).toEqual([[10, null]]);
  expect(times({}, TAG, of, 20)).toEqual([[10, null]]);
});

test('those that are on come first, alarms before warnings, then the newest', () => {
  const alarm = (severity: 'alarm' | 'warning', since: number, until: number | null) => ({ tag: TAG, severity, since, until, at: 0, bad: false });
  const [a, b, c, d] = [alarm('warning', 9, null), alarm('alarm', 1, null), alarm('alarm', 2, 3), alarm('warning', 4, 8)];
  expect(sorted([c, a, d, b])).toEqual([b, a, d, c]);
});

test('limits: the outermost that was passed, and none for what is no number', () => {
  const limits = { low_low: 1, low: 2, high: 8, high_high: 9 };
  expect([0.5, 1, 1.5, 2, 5, 8, 8.5, 9.5, NaN].map((value) => judge(value, limits).mark)).toEqual(['LL', 'L', 'L', '', '', '', 'H', 'HH', '']);
  expect(judge(5, undefined).level).toBe('none');
  expect([0.5, 0.7, 0.9].map((value) => judgeRatio(value, 0.85, 0.6))).toEqual(['alarm', 'warning', 'good']);
  expect(judgeRatio(0.5, undefined, undefined)).toBe('none');
});

test('a tag with limits: warnings and alarms by them, each its own', () => {
  const limited: Tag = { ...TAG, low_low_limit: 1, low_limit: 2, high_limit: 8, high_high_limit: 9 };
  const of = store([1, 5], [2, 8.5], [3, 9.5], [4, 8.5], [5, 5], [6, 1.5], [7, 0]);
  const found = (rule: Omit<AlarmRule, 'tags'>): unknown[] => alarmsOf({ tags: 'a/b', ...rule }, limited, of, 0).map(({ severity, since, until }) => [severity, since, until]);
  expect(found({})).toEqual([
    ['warning', 2, 3],
    ['alarm', 3, 4],
    ['warning', 4, 5],
    ['warning', 6, 7],
    ['alarm', 7, null],
  ]);
  expect(found({ severity: 'alarm' })).toEqual([
    ['alarm', 2, 5],
    ['alarm', 6, null],
  ]);
  // what the rule says itself counts, and nothing else
  expect(found({ above: 9 })).toEqual([['alarm', 3, 4]]);
});

test('the limits of a tag, as far as it has any, and what lies beyond them', () => {
  expect(limitsOf(TAG)).toBeUndefined();
  expect(limitsOf({ ...TAG, low_low_limit: null, low_limit: 0, high_limit: null, high_high_limit: 9 })).toEqual({ low: 0, high_high: 9 });
  expect(zonesOf({ low: 0, high: 8, high_high: 9 }).map(({ mark, limit, to }) => [mark, limit, to])).toEqual([
    ['L', 0, -Infinity],
    ['H', 8, 9],
    ['HH', 9, Infinity],
  ]);
});
