import { describe, expect, test } from 'vitest';
import { askable, byUnit, liveliest, moving } from '../src/pens/defaults';
import type { Columns, Tag } from '../src/data/protocol';

let ids = 0;
function tag(path: string, unit: string | null, more: Partial<Tag> = {}): Tag {
  return { tag_id: ++ids, path, kind: 'float', unit, description: null, low: null, high: null, step: false, states: null, ...more };
}

function columns(rows: [number, number][]): Columns {
  return {
    tagId: Int32Array.from(rows, (row) => row[0]),
    ts: Float64Array.from(rows, (_, i) => i),
    value: Float64Array.from(rows, (row) => row[1]),
    quality: Int16Array.from(rows, () => 192),
    text: null,
  };
}

describe('the first pens', () => {
  const t1 = tag('t1', '°C');
  const t2 = tag('t2', '°C');
  const t3 = tag('t3', '°C');
  const p1 = tag('p1', 'bar');
  const tags = [t1, t2, tag('state', null, { kind: 'digital', step: true }), t3, p1, tag('setpoint', 'bar', { step: true }), tag('bare', null)];

  test('are numbers with units, of all units in turn', () => {
    expect(byUnit(tags, 3).map((t) => t.path)).toEqual(['t1', 'p1', 't2']);
    expect(byUnit(tags, 8).map((t) => t.path)).toEqual(['t1', 'p1', 't2', 't3']);
    expect(byUnit([], 8)).toEqual([]);
  });

  test('are those that move; the others make up the number', () => {
    const recent = columns([[t1.tag_id, 0], [t1.tag_id, 0], [t2.tag_id, 1], [t2.tag_id, 2], [t2.tag_id, 3], [t3.tag_id, 5], [t3.tag_id, 6], [p1.tag_id, NaN], [p1.tag_id, 1], [p1.tag_id, 2], [p1.tag_id, 4]]);
    expect([...moving(recent)].sort()).toEqual([t2.tag_id, p1.tag_id].sort());
    expect(liveliest(tags, moving(recent), 3)).toEqual(['t2', 'p1', 't1']);
    expect(liveliest(tags, new Set(), 3)).toEqual(['t1', 'p1', 't2']);
  });

  test('are asked for in an address that is not too long', () => {
    const long = Array.from({ length: 40 }, (_, i) => tag(`${'x'.repeat(500)}${i}`, 'm'));
    expect(askable(long)).toHaveLength(11);
    expect(askable(tags)).toHaveLength(tags.length);
  });
});
