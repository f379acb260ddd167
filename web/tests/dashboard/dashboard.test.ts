import { expect, test } from 'vitest';
import { timeStep, timeTicks, valueStep, valueTicks } from '../../src/dashboard/axes';
import { newTile, spanUs, TILE_TYPES } from '../../src/dashboard/document';
import { grouped, wildcard } from '../../src/dashboard/feed';
import { zonesWithin } from '../../src/dashboard/tiles/gauge';
import { levelsThatDiffer } from '../../src/dashboard/tiles/trend';
import { Undo } from '../../src/dashboard/undo';
import { nameOf } from '../../src/data/documents';

test('a wildcard matches what the server has it match', () => {
  const matches = (pattern: string, path: string): boolean => wildcard(pattern).test(path);
  expect(matches('a/+/c', 'a/b/c')).toBe(true);
  expect(matches('a/+/c', 'a/b/b/c')).toBe(false);
  expect(['a', 'a/b', 'a/b/c'].map((path) => matches('a/#', path))).toEqual([true, true, true]);
  expect(matches('a/#', 'ab')).toBe(false);
  expect(matches('#', 'a/b')).toBe(true);
  expect(matches('a.b/(c)', 'a.b/(c)')).toBe(true);
  expect(matches('a.b', 'axb')).toBe(false);
});

test('tiles of one span share a subscription, in which each tag is once', () => {
  const groups = grouped([
    { pattern: 'b', span: 1, points: 10 },
    { pattern: 'a', span: 1, points: 400 },
    { pattern: 'b', span: 1, points: 20 },
    { pattern: 'b', span: 2, points: 10 },
  ]);
  expect([...groups]).toEqual([
    [1, { patterns: ['a', 'b'], points: 400 }],
    [2, { patterns: ['b'], points: 10 }],
  ]);
});

test('spans are those of the server, and anything else is the usual one', () => {
  expect([spanUs('90s', '1h'), spanUs('15m', '1h'), spanUs('7d', '1h'), spanUs(undefined, '1h'), spanUs('soon', '1h')].map((us) => us / 1e6)).toEqual([90, 900, 604_800, 3600, 3600]);
});

test('what is undone can be done again, until something else is done', () => {
  const undo = new Undo('a');
  undo.change('b');
  undo.change('c');
  undo.undo();
  undo.undo();
  expect([undo.current, undo.canUndo, undo.canRedo]).toEqual(['a', false, true]);
  undo.redo();
  expect(undo.current).toBe('b');
  undo.change('d');
  expect([undo.current, undo.canRedo]).toEqual(['d', false]);
  undo.redo();
  expect(undo.current).toBe('d');
});

test('ticks stand at round numbers and times', () => {
  expect(valueTicks(18, 73, valueStep(55, 4))).toEqual([20, 40, 60]);
  expect(valueTicks(-0.02, 0.03, valueStep(0.05, 5)).map((tick) => Number(tick.toFixed(4)))).toEqual([-0.02, -0.01, 0, 0.01, 0.02, 0.03]);
  const from = Date.UTC(2026, 0, 1, 10, 7) * 1000;
  const step = timeStep(3600e6, 8);
  expect(step).toBe(600e6);
  expect(timeTicks(from, from + 1800e6, step, 0).map((tick) => new Date(tick / 1000).toISOString().slice(11, 16))).toEqual(['10:10', '10:20', '10:30']);
});

test('the zones of a gauge lie within its scale', () => {
  expect(zonesWithin({ low_low: 20, low: 60, high_high: 200 }, 0, 150)).toEqual([
    { from: 0, to: 20, level: 'alarm' },
    { from: 20, to: 60, level: 'warning' },
  ]);
  expect(zonesWithin(undefined, 0, 1)).toEqual([]);
});

test('tags are called by what tells them apart', () => {
  const all = ['acme/line1/reactor1/temperature', 'acme/line2/reactor1/temperature'];
  expect(all.map((path) => levelsThatDiffer(path, all))).toEqual(['line1', 'line2']);
  const other = ['acme/line1/flow', 'acme/line1/feed_pressure'];
  expect(other.map((path) => levelsThatDiffer(path, other))).toEqual(['flow', 'feed pressure']);
});

test('names in addresses are made of titles', () => {
  expect(nameOf('Line 1: Übersicht (neu)')).toBe('line-1-ubersicht-neu');
  expect(nameOf('  –– ')).toBe('');
  expect(nameOf('x'.repeat(300))).toHaveLength(100);
});

test('a new tile has a place and asks for nothing', () => {
  for (const type of TILE_TYPES) expect(newTile(type, 'line1')).toMatchObject({ type, x: 0, y: 0 });
});
