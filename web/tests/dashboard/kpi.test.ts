import { expect, test } from 'vitest';
import type { Equipment } from '../../src/dashboard/document';
import { figures, keyFigure, newestBucket, NOTHING, type Row } from '../../src/dashboard/kpi';

const FILLER: Equipment = { state: 'f/state', running: ['run'], planned_stops: ['cleaning'], total: 'f/total', good: 'f/good', ideal_cycle: 'f/ideal' };
const T = '2026-01-01T06:00:00Z';
const duration = (state: string, value: number, quality = 192): Row => ({ tag: 'f/state', ts: T, value, quality, state });
const total = (tag: string, value: number | null, quality = 192): Row => ({ tag, ts: T, value, quality });

// an hour: 40 min running, 10 min fault, 10 min cleaning; 2000 pieces of 1 s at the best, 1900 of them good
const HOUR = {
  durations: [duration('run', 2400), duration('fault', 600), duration('cleaning', 600)],
  totals: [total('f/total', 2000), total('f/good', 1900)],
  averages: [total('f/ideal', 1)],
};

test('OEE is the product of its factors, as in the textbook', () => {
  const of = figures(FILLER, [HOUR]);
  expect(keyFigure('availability', of)).toBeCloseTo(2400 / 3000);
  expect(keyFigure('performance', of)).toBeCloseTo(2000 / 2400);
  expect(keyFigure('quality', of)).toBeCloseTo(0.95);
  // the same as: good pieces at their ideal time, by the planned time
  expect(keyFigure('oee', of)).toBeCloseTo((1900 * 1) / 3000);
  expect(keyFigure('rejects', of)).toBe(100);
  expect(keyFigure('running', of)).toBe(2400);
  expect(of.partial).toBe(false);
});

test('pieces of a period add up', () => {
  const tail = { durations: [duration('run', 25, 64), duration('fault', 5)], totals: [total('f/total', 20), total('f/good', null, 0)], averages: [total('f/ideal', 9)] };
  const of = figures(FILLER, [HOUR, tail]);
  expect([of.running_s, of.planned_s, of.total, of.good, of.ideal_s]).toEqual([2425, 3030, 2020, 1900, 1]);
  expect(of.partial).toBe(true);
});

test('what is not known is no number, and never zero', () => {
  const of = figures(FILLER, [NOTHING]);
  for (const show of ['oee', 'availability', 'performance', 'quality', 'total', 'good', 'rejects', 'running'] as const) expect(keyFigure(show, of)).toBeNaN();
  // nothing made yet: quality is not known, availability is
  const idle = figures(FILLER, [{ ...HOUR, durations: [duration('fault', 60)], totals: [total('f/total', 0), total('f/good', 0)] }]);
  expect(keyFigure('availability', idle)).toBe(0);
  expect(keyFigure('quality', idle)).toBeNaN();
  expect(keyFigure('oee', idle)).toBeNaN();
});

test('of several buckets the newest counts', () => {
  const old = { ...duration('run', 1), ts: '2025-12-31T22:00:00Z' };
  expect(newestBucket([old, ...HOUR.durations])).toEqual(HOUR.durations);
});
