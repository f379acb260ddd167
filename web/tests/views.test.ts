import { expect, test } from 'vitest';
import { type View, Views } from '../src/time/views';

const LIVE: View = { window: null, span: 900 };
const held = (from: number): View => ({ window: { from, to: from + 10 }, span: 900 });

test('going back undoes a gesture, however many moves it had', () => {
  const views = new Views();
  views.leave(LIVE, 1000);
  for (let at = 1016; at < 3000; at += 16) views.leave(held(at), at);
  views.leave(held(5), 9000);
  expect(views.back()).toEqual(held(5));
  expect(views.back()).toEqual(LIVE);
  expect(views.back()).toBeNull();
});

test('a move right after going back can be undone too', () => {
  const views = new Views();
  views.leave(LIVE, 1000);
  views.back();
  views.leave(LIVE, 1010);
  expect(views.back()).toEqual(LIVE);
});

test('only so many are kept, the newest ones', () => {
  const views = new Views();
  for (let i = 0; i < 80; i++) views.leave(held(i), i * 1000);
  const seen: (View | null)[] = [];
  for (let view = views.back(); view !== null; view = views.back()) seen.push(view);
  expect(seen).toHaveLength(50);
  expect(seen[0]).toEqual(held(79));
});
