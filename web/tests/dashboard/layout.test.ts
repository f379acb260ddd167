import { expect, test } from 'vitest';
import { COLUMNS, type Place } from '../../src/dashboard/document';
import { freePlace, moveTo, overlap, readingOrder } from '../../src/dashboard/layout';

/** The same numbers each time. */
function randoms(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

function board(random: (below: number) => number): Place[] {
  const tiles: Place[] = [];
  for (let n = 0; n < 12; n++) {
    const [w, h] = [1 + random(6), 1 + random(4)];
    tiles.push(freePlace(tiles, w, h));
  }
  return tiles;
}

const anyOverlap = (tiles: readonly Place[]): boolean => tiles.some((a, i) => tiles.some((b, j) => i < j && overlap(a, b)));

test('wherever a tile is moved, it stands there, within the grid, and none stands on another', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = randoms(seed);
    const tiles = board(random);
    expect(anyOverlap(tiles)).toBe(false);
    const index = random(tiles.length);
    const to = { ...tiles[index]!, x: random(16) - 2, y: random(12) - 2 };
    const moved = moveTo(tiles, index, to);
    expect(anyOverlap(moved)).toBe(false);
    const tile = moved[index]!;
    expect([tile.x, tile.y]).toEqual([Math.min(COLUMNS - tile.w, Math.max(0, to.x)), Math.max(0, to.y)]);
    // the others keep their columns and sizes, and only go down
    moved.forEach((now, i) => {
      const before = tiles[i]!;
      expect([now.w, now.h]).toEqual([before.w, before.h]);
      if (i !== index) expect([now.x, now.y >= before.y]).toEqual([before.x, true]);
    });
  }
});

test('what is not in the way stays where it is', () => {
  const tiles = [
    { x: 0, y: 0, w: 3, h: 2 },
    { x: 3, y: 0, w: 3, h: 2 },
    { x: 9, y: 0, w: 3, h: 2 },
  ];
  expect(moveTo(tiles, 0, { x: 2, y: 0, w: 3, h: 2 })).toEqual([{ x: 2, y: 0, w: 3, h: 2 }, { x: 3, y: 2, w: 3, h: 2 }, tiles[2]]);
});

test('tiles are read row by row', () => {
  expect(readingOrder([{ x: 6, y: 0, w: 1, h: 1 }, { x: 0, y: 2, w: 1, h: 1 }, { x: 0, y: 0, w: 1, h: 1 }])).toEqual([2, 0, 1]);
});
