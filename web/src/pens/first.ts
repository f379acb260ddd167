/** Chooses the first pens of a page that was opened without any: those that move. */
import { fetchRange } from '../data/range';
import type { Tag } from '../data/protocol';
import { MINUTE } from '../time/spans';
import { askable, byUnit, liveliest, moving } from './defaults';
import type { PenChoice } from './pen';

const DEFAULT_PENS = 8;
/** the first pens are chosen among so many tags, by how they moved in the last two minutes */
const CANDIDATES = 40;
const LATELY = 2 * MINUTE;
const LATELY_MS = 3000;

/** `now` in µs. */
export async function firstPens(tags: readonly Tag[], now: number): Promise<PenChoice[]> {
  const candidates = askable(byUnit(tags, CANDIDATES));
  const choice = (paths: string[]): PenChoice[] => paths.map((path, color) => ({ path, color }));
  if (candidates.length <= DEFAULT_PENS) return choice(candidates.map((tag) => tag.path));
  let moved = new Set<number>();
  try {
    moved = moving(await fetchRange(candidates.map((tag) => tag.path), { from: now - LATELY, to: now }, 10, AbortSignal.timeout(LATELY_MS)));
  } catch {
    // without an answer the choice is only less lively
  }
  return choice(liveliest(candidates, moved, DEFAULT_PENS));
}
