import { expect, test } from 'vitest';
import type { Dashboard, Equipment, Tile } from '../../src/dashboard/document';
import { faultsOfEquipment, idealCycle, idealShown, statesOf, tilesOf, withEquipment, withoutEquipment } from '../../src/dashboard/equipment';
import { besides, sizedOnSmall } from '../../src/dashboard/grab';
import { shiftsOf } from '../../src/dashboard/shiftsform';
import type { Tag } from '../../src/data/protocol';

const tag = (path: string, more: Partial<Tag> = {}): Tag => ({ tag_id: 1, path, kind: 'float', unit: null, description: null, low: null, high: null, step: false, states: null, ...more });
const TAGS = new Map(
  [tag('m/state', { kind: 'digital', states: { '0': 'stopped', '1': 'running', '4': 'cleaning' } }), tag('m/total', { kind: 'int' }), tag('m/note', { kind: 'text' }), tag('m/run', { kind: 'bool' })].map((one) => [one.path, one]),
);
const GOOD: Equipment = { state: 'm/state', running: ['running'], planned_stops: ['cleaning'], total: 'm/total', good: 'm/later', ideal_cycle: 0.5 };
const faults = (more: Partial<Equipment>, name = 'filler'): string[] => faultsOfEquipment(name, { ...GOOD, ...more }, ['taken'], TAGS);

test('equipment that is as it has to be, with a tag that is yet to come', () => {
  expect(faults({})).toEqual([]);
  // of a text any state may come
  expect(faults({ state: 'm/note', running: ['whatever'] })).toEqual([]);
});

test.each([
  [{}, 'a b', /letters, digits/],
  [{}, 'taken', /already/],
  [{ state: '' }, 'filler', /^State tag: choose a tag/],
  [{ total: 'm/note' }, 'filler', /m\/note is of kind text/],
  [{ state: 'm/total2', running: [] }, 'filler', /at least one state/],
  [{ planned_stops: ['running'] }, 'filler', /not both: running/],
  [{ running: ['runing'] }, 'filler', /m\/state has no state runing/],
  [{ ideal_cycle: NaN }, 'filler', /above 0/],
  [{ ideal_cycle: '' }, 'filler', /^Ideal rate: choose a tag/],
] as [Partial<Equipment>, string, RegExp][])('what is wrong is said: %o %s', (more, name, fault) => {
  const found = faults(more, name);
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(fault);
});

test('the tiles of equipment that is renamed go along, and its place in the list stays', () => {
  const place = { x: 0, y: 0, w: 3, h: 3 };
  const tiles: Tile[] = [{ type: 'kpi', ...place, equipment: 'a', show: 'oee' }, { type: 'kpi', ...place, equipment: 'b', show: 'oee' }];
  const dashboard: Dashboard = { title: 't', equipment: { a: GOOD, b: GOOD }, tiles };
  const renamed = withEquipment(dashboard, 'a', 'c', GOOD);
  expect(Object.keys(renamed.equipment!)).toEqual(['c', 'b']);
  expect([tilesOf(renamed, 'a'), tilesOf(renamed, 'c'), tilesOf(renamed, 'b')]).toEqual([0, 1, 1]);
  expect(Object.keys(withoutEquipment(renamed, 'c').equipment!)).toEqual(['b']);
  expect(Object.keys(withEquipment(dashboard, null, 'd', GOOD).equipment!)).toEqual(['a', 'b', 'd']);
});

test('an ideal rate in the units that people use', () => {
  expect([idealCycle('120', 'min'), idealCycle('0,5', 's'), idealCycle('7200', 'h'), idealCycle(' m/ideal ', 'tag'), idealCycle('-1', 's'), idealCycle('', 'min')]).toEqual([0.5, 0.5, 0.5, 'm/ideal', NaN, NaN]);
  expect([idealShown(0.5), idealShown(90), idealShown('m/ideal'), idealShown(0.7)]).toEqual([
    { text: '120', unit: 'min' },
    { text: '90', unit: 's' },
    { text: 'm/ideal', unit: 'tag' },
    { text: '0.7', unit: 's' },
  ]);
  expect([statesOf(TAGS.get('m/state')), statesOf(TAGS.get('m/run')), statesOf(TAGS.get('m/note')), statesOf(undefined)]).toEqual([['stopped', 'running', 'cleaning'], ['true', 'false'], null, null]);
});

test('the shifts of a day', () => {
  expect(shiftsOf('8h', '06:30')).toEqual([
    ['06:30', '14:30'],
    ['14:30', '22:30'],
    ['22:30', '06:30'],
  ]);
  expect(shiftsOf('24h', '00:00')).toEqual([['00:00', '00:00']]);
  expect(shiftsOf('8h', '')).toEqual([]);
});

test('on a small screen a tile goes before or behind another one, and is wide or half as wide', () => {
  const tiles = [
    { x: 0, y: 0, w: 3, h: 2 },
    { x: 3, y: 0, w: 6, h: 4 },
    { x: 0, y: 4, w: 12, h: 2 },
  ];
  expect(besides(tiles, 0, 2)).toEqual({ x: 0, y: 6, w: 3, h: 2 });
  expect(besides(tiles, 2, 1)).toEqual({ x: 3, y: 0, w: 9, h: 2 });
  expect(sizedOnSmall(tiles[0]!, 0.4, 1.2)).toEqual({ x: 0, y: 0, w: 6, h: 3 });
  expect(sizedOnSmall({ x: 9, y: 0, w: 3, h: 2 }, 0.4, 0)).toEqual({ x: 6, y: 0, w: 6, h: 2 });
  expect(sizedOnSmall(tiles[1]!, -0.4, 2)).toEqual({ x: 3, y: 0, w: 3, h: 4 });
  expect(sizedOnSmall(tiles[1]!, 0.1, -1.2)).toEqual({ x: 3, y: 0, w: 6, h: 3 });
});
