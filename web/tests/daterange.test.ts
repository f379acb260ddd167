import { expect, test } from 'vitest';
import { fromLocal, toLocal } from '../src/ui/daterange';

test('a time and its input say the same, in whole seconds', () => {
  const us = Date.UTC(2026, 2, 1, 12, 30, 15) * 1000;
  expect(fromLocal(toLocal(us), toLocal(us + 3_600_000_000))).toEqual({ from: us, to: us + 3_600_000_000 });
  expect(fromLocal(toLocal(us + 999_999), toLocal(us + 1_000_000))).toEqual({ from: us, to: us + 1_000_000 });
});

test('what is no stretch of time is told', () => {
  expect(fromLocal('', '2026-01-01T00:00')).toBe('Give both a date and a time.');
  expect(fromLocal('2026-01-01T00:00:00', '2026-01-01T00:00:00')).toBe('The end lies before the start.');
});
