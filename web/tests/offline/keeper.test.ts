import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Keeper } from '../../src/offline/keeper';

let page: EventTarget;
let writes: number;
let keeper: Keeper;

beforeEach(() => {
  vi.useFakeTimers();
  page = new EventTarget();
  vi.stubGlobal('window', page);
  vi.stubGlobal('document', Object.assign(new EventTarget(), { visibilityState: 'visible' }));
  writes = 0;
  keeper = new Keeper(async () => void writes++);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('it writes soon after the first data, and then seldom, however much comes', async () => {
  for (let second = 0; second < 120; second++) {
    for (let i = 0; i < 10; i++) keeper.changed();
    await vi.advanceTimersByTimeAsync(1000);
    if (second === 3) expect(writes).toBe(1);
  }
  expect(writes).toBeGreaterThanOrEqual(4);
  expect(writes).toBeLessThanOrEqual(5);
});

test('it writes what is new as the page goes, once, and nothing where nothing is new', async () => {
  page.dispatchEvent(new Event('pagehide'));
  expect(writes).toBe(0);
  keeper.changed();
  page.dispatchEvent(new Event('pagehide'));
  page.dispatchEvent(new Event('pagehide'));
  expect(writes).toBe(1);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(writes).toBe(1);
});

test('what was refused is not written, and what comes after it is', async () => {
  keeper.changed();
  keeper.drop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(writes).toBe(0);
  keeper.changed();
  page.dispatchEvent(new Event('pagehide'));
  expect(writes).toBe(1);
});

test('it writes no more once what was kept is to be forgotten', async () => {
  keeper.changed();
  keeper.stop();
  keeper.changed();
  page.dispatchEvent(new Event('pagehide'));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(writes).toBe(0);
});
