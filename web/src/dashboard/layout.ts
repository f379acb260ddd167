/** Where tiles stand on the grid: a moved one pushes those that it comes upon down. */
import { COLUMNS, MAX_ROWS, type Place } from './document';

export function overlap(a: Place, b: Place): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** The place within the grid that is nearest to one that may lie outside. */
export function clamp({ x, y, w, h }: Place): Place {
  const width = Math.min(COLUMNS, Math.max(1, w));
  const height = Math.min(20, Math.max(1, h));
  return { x: Math.min(COLUMNS - width, Math.max(0, x)), y: Math.min(MAX_ROWS - 1, Math.max(0, y)), w: width, h: height };
}

/** All tiles, with the one at `index` in another place and no two on each other. */
export function moveTo<T extends Place>(tiles: readonly T[], index: number, place: Place): T[] {
  const moved = tiles.map((tile, i) => (i === index ? { ...tile, ...clamp(place) } : tile));
  const first = moved[index];
  if (first === undefined) return moved;
  const settled: Place[] = [first];
  const order = moved.map((_, i) => i).filter((i) => i !== index).sort((a, b) => moved[a]!.y - moved[b]!.y || moved[a]!.x - moved[b]!.x);
  for (const i of order) {
    let tile = moved[i]!;
    for (let hit = settled.find((other) => overlap(other, tile)); hit !== undefined; hit = settled.find((other) => overlap(other, tile))) {
      tile = { ...tile, y: hit.y + hit.h };
    }
    moved[i] = tile;
    settled.push(tile);
  }
  return moved;
}

/** The first place, from the top, where a tile of this size has room. */
export function freePlace(tiles: readonly Place[], w: number, h: number): Place {
  for (let y = 0; y < MAX_ROWS; y++) {
    for (let x = 0; x + w <= COLUMNS; x++) {
      const place = { x, y, w, h };
      if (!tiles.some((tile) => overlap(tile, place))) return place;
    }
  }
  return { x: 0, y: MAX_ROWS - 1, w, h };
}

/** How many rows they take. */
export function rows(tiles: readonly Place[]): number {
  return tiles.reduce((most, { y, h }) => Math.max(most, y + h), 0);
}

/** As one reads them: row by row. */
export function readingOrder(tiles: readonly Place[]): number[] {
  return tiles.map((_, i) => i).sort((a, b) => tiles[a]!.y - tiles[b]!.y || tiles[a]!.x - tiles[b]!.x);
}
