import { expect, test } from 'vitest';
import { type View, Views } from '../src/time/views';

const LIVE: View = { window: null, span: 900 };
const held = (from: number): View => ({ window: { from, to: from + 10 }, span: 900 });

test('going back undoes a gesture, however many moves it had', () => {
  const views = new Views();
  views.leave(LIVE, 1000);
  for (let at = 1016; at < 3000; at += 16) views.leave(held(at), at);
  views.leave(held(5), 9000);
  expect(views.back(LIVE)).toEqual(held(5));
  expect(views.back(LIVE)).toEqual(LIVE);
  expect(views.back(LIVE)).toBeNull();
});

test('a move right after going back can be undone too', () => {
  const views = new Views();
  views.leave(LIVE, 1000);
  views.back(LIVE);
  views.leave(LIVE, 1010);
  expect(views.back(LIVE)).toEqual(LIVE);
});

test('only so many are kept, the newest ones', () => {
  const views = new Views();
  for (let i = 0; i < 80; i++) views.leave(held(i), i * 1000);
  const seen: (View | null)[] = [];
  for (let view = views.back(LIVE); view !== null; view = views.back(LIVE)) seen.push(view);
  expect(seen).toHaveLength(50);
  expect(seen[0]).toEqual(held(79));
});

test('going forward undoes going back, until there is another move', () => {
  const views = new Views();
  views.leave(LIVE, 1000);
  views.leave(held(1), 5000);
  expect(views.back(held(2))).toEqual(held(1));
  expect(views.back(held(1))).toEqual(LIVE);
  expect(views.forward(LIVE)).toEqual(held(1));
  expect(views.forward(held(1))).toEqual(held(2));
  expect(views.forward(held(2))).toBeNull();
  views.back(held(2));
  views.leave(held(1), 9000);
  expect(views.forward(held(3))).toBeNull();
});
