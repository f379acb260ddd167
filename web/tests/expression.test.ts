import { describe, expect, test } from 'vitest';
import { calculatedTag, nameOf, quoted, shortest } from '../src/pens/expression';
import { Pen } from '../src/pens/pen';

describe('expressions', () => {
  test('a name before a colon', () => {
    expect(nameOf('power [kW]: a/b * 2')).toEqual({ name: 'power [kW]', expression: 'a/b * 2' });
    expect(nameOf(' a/b * 2 ')).toEqual({ name: 'a/b * 2', expression: 'a/b * 2' });
    expect(nameOf('"a:b/c" * 2').name).toBe('"a:b/c" * 2');
  });

  test('a path is quoted where it would mean something else', () => {
    expect(quoted('acme/line-1/t.x')).toBe('acme/line-1/t.x');
    expect(['a b/c', 'flow', '1st/x', 'a/b+c', 'a/"x"'].map(quoted)).toEqual(['"a b/c"', '"flow"', '"1st/x"', '"a/b+c"', '"a/""x"""']);
  });

  test('a tag is offered by as many levels as tell it from the others', () => {
    const tags = ['a/l1/pump/flow', 'a/l2/pump/flow', 'a/l2/tank/flow', 'flow'].map(calculatedTag);
    expect(tags.map((tag) => shortest(tag, tags))).toEqual(['l1/pump/flow', 'l2/pump/flow', 'tank/flow', 'flow']);
  });

  test('a pen tells a tag from a calculation of the same text', () => {
    const [tag, calculated] = [new Pen({ ...calculatedTag('a/b'), tag_id: 7 }, 1), new Pen(calculatedTag('a/b'), 2, 'a/b')];
    expect([tag.choice, calculated.choice]).toEqual([{ path: 'a/b', color: 1 }, { path: 'a/b', color: 2, calculated: true }]);
    expect([tag.isOf(calculated.choice), calculated.isOf(tag.choice), calculated.isOf(calculated.choice)]).toEqual([false, false, true]);
    expect(tag.label).toBe('b');
    expect(new Pen(calculatedTag('a/b * 2'), 0, 'a/b * 2').label).toBe('a/b * 2');
  });
});
