import { beforeEach, expect, test } from 'vitest';
import { HOUR, MINUTE } from '../src/time/spans';
import { View } from '../src/time/view';

let now: number;
let tick: number;
let told: string[];
let view: View;

beforeEach(() => {
  now = 1.8e15;
  tick = 0;
  told = [];
  view = new View(() => now, { onHold: () => told.push('hold'), onLive: () => told.push('live'), onSpan: () => told.push('span') }, HOUR, () => (tick += 1000));
});

test('a live window ends just behind now', () => {
  expect(view.window.to - now).toBe(HOUR * 0.008);
  expect(view.window.to - view.window.from).toBe(HOUR);
  now += MINUTE;
  expect(view.holdsTo).toBe(now);
  expect(told).toEqual([]);
});

test('a held one stays, and so does what now was', () => {
  view.pauseOrLive();
  const { window, holdsTo } = view;
  now += MINUTE;
  expect(view.window).toEqual(window);
  expect(view.holdsTo).toBe(holdsTo);
  view.pauseOrLive();
  expect(view.held).toBeNull();
  expect(told).toEqual(['hold', 'live']);
});

test('one goes back to the live window and its span, and forward again', () => {
  view.preset(5 * MINUTE);
  view.zoom(0.5);
  const zoomed = view.window;
  view.back();
  expect([view.held, view.span]).toEqual([null, 5 * MINUTE]);
  view.back();
  expect(view.span).toBe(HOUR);
  view.back();
  expect(view.span).toBe(HOUR);
  view.forward();
  expect(view.span).toBe(5 * MINUTE);
  view.forward();
  expect(view.window).toEqual(zoomed);
});

test('a preset of a held window ends where that ended', () => {
  view.hold({ from: 1e15, to: 1e15 + HOUR });
  view.preset(MINUTE);
  expect(view.window).toEqual({ from: 1e15 + HOUR - MINUTE, to: 1e15 + HOUR });
});

test('no window is shorter than can be drawn', () => {
  view.hold({ from: 5, to: 6 });
  expect(view.window).toEqual({ from: 5, to: 100_005 });
});
