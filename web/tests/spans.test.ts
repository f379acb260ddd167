import { describe, expect, test } from 'vitest';
import { Clock } from '../src/data/clock';
import { decimalsOfStep, formatNumber, formatSample } from '../src/ui/format';
import { formatHash, parseHash } from '../src/trend/hash';
import { HOUR, MINUTE, pointsFor, SECOND, shift, spanText, tickLabel, timeOfDay, zoom } from '../src/time/spans';
import type { Tag } from '../src/data/protocol';

describe('windows', () => {
  test('zooming keeps the instant under the cursor where it is', () => {
    const zoomed = zoom({ from: 0, to: 1000 * SECOND }, 250 * SECOND, 0.5);
    expect(zoomed).toEqual({ from: 125 * SECOND, to: 625 * SECOND });
  });

  test('zooming ends at a tenth of a second and at ten years', () => {
    const near = zoom({ from: 0, to: SECOND }, 0, 1e-9);
    expect(near.to - near.from).toBe(100_000);
    const far = zoom({ from: 0, to: SECOND }, 0, 1e30);
    expect((far.to - far.from) / (365 * 24 * HOUR)).toBeCloseTo(10, 0);
  });

  test('shifting moves by a part of the window', () => {
    expect(shift({ from: 100, to: 300 }, -0.5)).toEqual({ from: 0, to: 200 });
  });

  test('four points a pixel, within what the server takes', () => {
    expect([10, 1000, 1e6].map(pointsFor)).toEqual([200, 4000, 100_000]);
  });
});

describe('words', () => {
  test('spans', () => {
    expect([5 * MINUTE, 90 * MINUTE, HOUR, 26 * HOUR, 1.4 * SECOND, 250_000].map(spanText)).toEqual(['5 min', '1 h 30 min', '1 h', '1 d 2 h', '1 s', '250 ms']);
  });

  test('times of day have the decimals asked for', () => {
    const noon = new Date(2026, 0, 1, 12, 0, 5).getTime() * 1000 + 42_007;
    expect(timeOfDay(noon)).toBe('12:00:05');
    expect(timeOfDay(noon, 3)).toBe('12:00:05.042');
    expect(timeOfDay(noon, 6)).toBe('12:00:05.042007');
  });

  test('ticks name the date at the first of them and where a day begins', () => {
    const late = new Date(2026, 0, 1, 23, 50).getTime() * 1000;
    const next = new Date(2026, 0, 2, 0, 0).getTime() * 1000;
    expect(tickLabel(late, 10 * MINUTE, null)).toBe('23:50\n2026-01-01');
    expect(tickLabel(next, 10 * MINUTE, late)).toBe('00:00\n2026-01-02');
    expect(tickLabel(next + 10 * MINUTE, 10 * MINUTE, next)).toBe('00:10');
    expect(tickLabel(next, SECOND, late)).toBe('00:00:00\n2026-01-02');
  });

  test('numbers', () => {
    expect(formatNumber(1234567, 0)).toBe('1\u202f234\u202f567');
    expect(formatNumber(-0.2, 1)).toBe('−0.2');
    expect(formatNumber(-0.00001, 1)).toBe('0.0');
    expect(formatNumber(NaN)).toBe('–');
    expect([1, 0.5, 0.25, 20, 0.001].map(decimalsOfStep)).toEqual([0, 1, 2, 0, 3]);
  });

  test('a digital tag shows the name of its state', () => {
    const tag: Tag = { tag_id: 1, path: 'p', kind: 'digital', unit: null, description: null, low: null, high: null, step: true, states: { '2': 'running' } };
    const sample = { ts: 0, value: 2, quality: 192, text: null };
    expect(formatSample(tag, sample)).toBe('running');
    expect(formatSample(tag, { ...sample, value: 7 })).toBe('7');
    expect(formatSample({ ...tag, kind: 'bool', states: null }, { ...sample, value: 1 })).toBe('true');
    expect(formatSample({ ...tag, kind: 'text', states: null }, { ...sample, value: NaN, text: 'B-1' })).toBe('B-1');
    expect(formatSample(tag, null)).toBe('–');
  });
});

describe('the hash', () => {
  test('brings back what was shown', () => {
    const state = { pens: [{ path: 'site/Größe~3&x=1', color: 5 }, { path: 'b/c', color: 0, own: true, low: -1.5, high: 1e21 }], span: HOUR, window: null, scaling: 'percent' as const, layout: 'units' as const, cursors: { a: 1_700_000_001_000_000, b: 1_700_000_002_000_000 }, compare: 86_400_000_000 as const };
    expect(parseHash(formatHash(state))).toEqual(state);
    const paused = { ...state, window: { from: 1_767_225_600_000_001, to: 1_767_225_700_000_000 }, span: 15 * MINUTE };
    expect(parseHash(formatHash(paused))).toEqual(paused);
    const calculated = { ...state, pens: [{ path: 'a/b', color: 3 }, { path: 'η [%]: "a b/c~1" * 2 + 1', color: 5, calculated: true as const }] };
    expect(parseHash(formatHash(calculated))).toEqual(calculated);
    expect(parseHash('#calc=a/b%20*%202&pen=a/b').pens).toEqual([{ path: 'a/b * 2', color: 0, calculated: true }, { path: 'a/b', color: 1 }]);
  });

  test('that says nothing, or nonsense, gives the defaults', () => {
    const defaults = { pens: null, span: 15 * MINUTE, window: null, scaling: 'auto', layout: 'overlay', cursors: null, compare: 0 };
    for (const hash of ['', '#', '#from=9&to=1', '#span=-1&scale=x', '#span=Infinity', '#pen=', '#axes=x&cursors=1&compare=-1']) expect(parseHash(hash)).toEqual(defaults);
    expect(parseHash('#pen=%E0%A4%A')).toMatchObject({ pens: [{ path: '%E0%A4%A', color: 0 }] });
  });

  test('names thirty-two pens at the most', () => {
    const hash = `#${Array.from({ length: 40 }, (_, i) => `pen=t${i}`).join('&')}`;
    expect(parseHash(hash).pens).toHaveLength(32);
  });
});

describe('the clock', () => {
  test('follows the server, whatever the browser thinks', () => {
    let local = 0;
    const clock = new Clock(() => local);
    clock.serverDate(1000 * SECOND);
    local += SECOND;
    expect(clock.now()).toBe(1001 * SECOND);
  });

  test('is moved on by the newest sample, never back, and not by one from a wrong clock', () => {
    const clock = new Clock(() => 0);
    clock.serverDate(1000 * SECOND);
    clock.sample(1000.8 * SECOND);
    expect(clock.now()).toBe(1000.8 * SECOND);
    clock.sample(990 * SECOND);
    clock.sample(5000 * SECOND);
    expect(clock.now()).toBe(1000.8 * SECOND);
  });

  test('is set back if it was far ahead', () => {
    const clock = new Clock(() => 0);
    clock.serverDate(2000 * SECOND);
    clock.serverDate(1000 * SECOND);
    expect(clock.now()).toBe(1000 * SECOND);
  });
});
