/** The pens of a page that was opened without any: what a stranger sees first should move. */
import type { Columns, Tag } from '../data/protocol';

/** Paths of an address that all servers and proxies take. */
const MAX_QUERY = 6000;

/** Numbers with units, of as many units as there are, in turn. */
export function byUnit(tags: readonly Tag[], count: number): Tag[] {
  const units = new Map<string, Tag[]>();
  const candidates = tags.filter((tag) => tag.kind === 'float' && tag.unit !== null && !tag.step);
  for (const tag of candidates) {
    const of = units.get(tag.unit!);
    if (of === undefined) units.set(tag.unit!, [tag]);
    else of.push(tag);
  }
  const chosen: Tag[] = [];
  for (let round = 0; chosen.length < Math.min(count, candidates.length); round++) {
    for (const of of units.values()) {
      const tag = of[round];
      if (tag !== undefined && chosen.length < count) chosen.push(tag);
    }
  }
  return chosen;
}

/** As many of them as one query may name. */
export function askable(tags: readonly Tag[]): Tag[] {
  let length = 0;
  return tags.filter((tag) => (length += encodeURIComponent(tag.path).length + 5) <= MAX_QUERY);
}

/** The tags whose values have moved lately: with three different ones at least, so that a single step is no movement. */
export function moving(recent: Columns): Set<number> {
  const seen = new Map<number, Set<number>>();
  for (let i = 0; i < recent.tagId.length; i++) {
    const value = recent.value[i]!;
    if (Number.isNaN(value)) continue;
    const id = recent.tagId[i]!;
    const of = seen.get(id);
    if (of === undefined) seen.set(id, new Set([value]));
    else of.add(value);
  }
  return new Set([...seen].filter(([, values]) => values.size >= 3).map(([id]) => id));
}

/** Of the candidates those that move, in their order; the others make up the number. */
export function liveliest(candidates: readonly Tag[], moved: ReadonlySet<number>, count: number): string[] {
  const lively = byUnit(candidates.filter((tag) => moved.has(tag.tag_id)), count);
  const quiet = byUnit(candidates.filter((tag) => !moved.has(tag.tag_id)), count - lively.length);
  return [...lively, ...quiet].map((tag) => tag.path);
}
