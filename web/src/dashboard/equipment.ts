/** Changes of a dashboard's equipment, and what is wrong with one, in words. No DOM. */
import type { Kind, Tag } from '../data/protocol';
import type { Dashboard, Equipment } from './document';
import { strings } from './strings';

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$/;
const NUMBERS: readonly Kind[] = ['float', 'int'];
const STATES: readonly Kind[] = ['digital', 'text', 'bool', 'int'];

/** The names that the states of a tag have; null: any, as of a text. */
export function statesOf(tag: Tag | undefined): string[] | null {
  if (tag?.kind === 'bool') return ['true', 'false'];
  return tag?.kind === 'digital' && tag.states !== null ? Object.values(tag.states) : null;
}

/** What is wrong, each in a sentence; `taken`: names of the others. Tags that are not known yet may come to be. */
export function faultsOfEquipment(name: string, equipment: Equipment, taken: readonly string[], tags: ReadonlyMap<string, Tag>): string[] {
  const words = strings.equipment;
  const { state, running, planned_stops = [], total, good, ideal_cycle } = equipment;
  const faults: string[] = [];
  if (!NAME.test(name)) faults.push(words.badName);
  else if (taken.includes(name)) faults.push(words.taken(name));
  const check = (label: string, path: string, kinds: readonly Kind[]): void => {
    const tag = tags.get(path);
    if (path === '') faults.push(words.noTag(label));
    else if (tag !== undefined && !kinds.includes(tag.kind)) faults.push(words.wrongKind(label, path, tag.kind, kinds.join(', ')));
  };
  check(words.state, state, STATES);
  check(words.total, total, NUMBERS);
  check(words.good, good, NUMBERS);
  if (typeof ideal_cycle === 'string') check(words.ideal, ideal_cycle, NUMBERS);
  else if (!(ideal_cycle > 0 && Number.isFinite(ideal_cycle))) faults.push(words.badIdeal);
  if (running.length === 0) faults.push(words.noRunning);
  const both = running.filter((name) => planned_stops.includes(name));
  if (both.length > 0) faults.push(words.both(both.join(', ')));
  const known = statesOf(tags.get(state));
  const unknown = known === null ? [] : [...running, ...planned_stops].filter((name) => !known.includes(name));
  if (unknown.length > 0) faults.push(words.noStates(unknown.join(', '), state));
  return faults;
}

/** With a piece of equipment added, changed or renamed; the tiles of one that is renamed go along. `before`: its name until now, null: it is new. */
export function withEquipment(dashboard: Dashboard, before: string | null, name: string, equipment: Equipment): Dashboard {
  const old = Object.entries(dashboard.equipment ?? {});
  const changed = before === null ? [...old, [name, equipment] as const] : old.map(([key, value]) => (key === before ? ([name, equipment] as const) : ([key, value] as const)));
  return {
    ...dashboard,
    equipment: Object.fromEntries(changed),
    tiles: dashboard.tiles.map((tile) => (tile.type === 'kpi' && before !== null && tile.equipment === before ? { ...tile, equipment: name } : tile)),
  };
}

export function withoutEquipment(dashboard: Dashboard, name: string): Dashboard {
  return { ...dashboard, equipment: Object.fromEntries(Object.entries(dashboard.equipment ?? {}).filter(([key]) => key !== name)) };
}

/** How many tiles show it. */
export function tilesOf(dashboard: Dashboard, name: string): number {
  return dashboard.tiles.filter((tile) => tile.type === 'kpi' && tile.equipment === name).length;
}

/** An ideal cycle as people give it, in seconds a piece, or null. */
export const IDEAL_UNITS = ['s', 'min', 'h', 'tag'] as const;
export type IdealUnit = (typeof IDEAL_UNITS)[number];

/** From a number in one of the units, or a tag, to what the document has; NaN: it is no positive number. */
export function idealCycle(text: string, unit: IdealUnit): number | string {
  if (unit === 'tag') return text.trim();
  const number = Number(text.trim().replace(',', '.') || NaN);
  if (!(number > 0)) return NaN;
  return unit === 's' ? number : (unit === 'min' ? 60 : 3600) / number;
}

/** How it is shown: fast machines by what they make a minute, as their makers do. */
export function idealShown(ideal: number | string): { text: string; unit: IdealUnit } {
  if (typeof ideal === 'string') return { text: ideal, unit: 'tag' };
  const perMinute = 60 / ideal;
  // only where that is a number that one would write
  if (ideal < 60 && Number(perMinute.toPrecision(6)) === perMinute) return { text: String(perMinute), unit: 'min' };
  return { text: Number.isNaN(ideal) ? '' : String(ideal), unit: Number.isNaN(ideal) ? 'min' : 's' };
}
