import { expect, test } from 'vitest';
import { ageText, instantText } from '../../src/offline/age';
import { AsOf } from '../../src/offline/asof';
import { Clock } from '../../src/data/clock';
import { DAY, HOUR, MINUTE, SECOND } from '../../src/time/spans';

test.each([
  [0, '< 1 min'],
  [59.9 * SECOND, '< 1 min'],
  [MINUTE, '1 min'],
  [25 * MINUTE + 40 * SECOND, '25 min'],
  [3 * HOUR + 20 * MINUTE + 59 * SECOND, '3 h 20 min'],
  [2 * DAY + 3 * HOUR, '2 d 3 h'],
])('an age of %d µs is %s', (age, words) => expect(ageText(age)).toBe(words));

test('the day is told where it is another one', () => {
  const at = new Date(2026, 2, 1, 10, 42, 31).getTime() * 1000;
  expect(instantText(at, at + HOUR)).toBe('10:42');
  expect(instantText(at, at + DAY)).toBe('2026-03-01 10:42');
});

test('what is shown ends where the connection was last heard of, and is of now again once it is back', () => {
  let local = 1_000_000 * SECOND;
  const clock = new Clock(() => local);
  clock.restore(5 * SECOND);
  const asOf = new AsOf(clock, () => ({ heard: Date.now() }));
  asOf.state({ name: 'connecting' });
  expect([asOf.at, asOf.age, asOf.now()]).toEqual([null, null, local + 5 * SECOND]);
  asOf.state({ name: 'live' });
  expect(asOf.at).toBeNull();
  asOf.state({ name: 'reconnecting', at: 0 });
  const lost = local + 5 * SECOND;
  local += 10 * MINUTE;
  // each attempt changes nothing
  asOf.state({ name: 'connecting' });
  asOf.state({ name: 'offline', at: 0 });
  expect(asOf.now()).toBeCloseTo(lost, -5);
  expect(asOf.age).toBeCloseTo(10 * MINUTE, -5);
  asOf.state({ name: 'live' });
  expect([asOf.at, asOf.now()]).toEqual([null, local + 5 * SECOND]);
  // what was kept is older than what has come
  asOf.restore(lost);
  expect(asOf.at).toBeNull();
});
