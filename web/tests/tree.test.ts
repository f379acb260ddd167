import { describe, expect, test } from 'vitest';
import type { Tag } from '../src/data/protocol';
import { branchTags, buildTree, initiallyOpen, matcher, visibleRows } from '../src/tags/tree';

function tag(path: string, more: Partial<Tag> = {}): Tag {
  return { tag_id: 1, path, kind: 'float', unit: null, description: null, low: null, high: null, step: false, states: null, ...more };
}

function lines(tags: Tag[], open: string[], everything = false): string[] {
  return visibleRows(buildTree(tags), new Set(open), everything).map((row) => '  '.repeat(row.level) + (row.kind === 'folder' ? `${row.folder.name}/${row.folder.count}` : row.name));
}

const TAGS = [tag('site/line10/x'), tag('site/line2/a/temperature', { unit: '°C', description: 'Temperature of the oven' }), tag('site/line2/a/run'), tag('alone')];

describe('the tree', () => {
  test('closed folders show how many tags they have; numbers sort as numbers, folders before tags', () => {
    expect(lines(TAGS, [])).toEqual(['site/3', 'alone']);
    expect(lines(TAGS, ['site'])).toEqual(['site/3', '  line2/2', '  line10/1', 'alone']);
    expect(lines(TAGS, ['site', 'site/line2', 'site/line2/a'])).toEqual(['site/3', '  line2/2', '    a/2', '      run', '      temperature', '  line10/1', 'alone']);
  });

  test('a branch has its tags in the order of its lines', () => {
    const site = buildTree(TAGS).folders.get('site')!;
    expect(branchTags(site).map((t) => t.path)).toEqual(['site/line2/a/run', 'site/line2/a/temperature', 'site/line10/x']);
  });

  test('results of a search are open', () => {
    expect(lines([TAGS[1]!], [], true)).toEqual(['site/1', '  line2/1', '    a/1', '      temperature']);
  });

  test('a tag and a folder may have one name', () => {
    expect(lines([tag('a/b'), tag('a/b/c')], ['a', 'a/b'])).toEqual(['a/2', '  b/1', '    c', '  b']);
  });

  test('at first it is open down to where there is a choice, and where pens are', () => {
    const tags = [tag('site/area/l1/x'), tag('site/area/l2/y')];
    expect([...initiallyOpen(buildTree(tags), [])]).toEqual(['site', 'site/area']);
    expect([...initiallyOpen(buildTree(tags), ['site/area/l2/y'])]).toEqual(['site', 'site/area', 'site/area/l2']);
  });

  test('ten thousand tags are listed and searched without being noticed', () => {
    const tags = Array.from({ length: 10_000 }, (_, i) => tag(`site/area${i % 10}/line${i % 100}/tag${i}`, { description: `Sensor ${i}` }));
    const before = performance.now();
    const found = tags.filter(matcher('line42 sensor 1')!);
    expect(visibleRows(buildTree(found), new Set(), true).length).toBeGreaterThan(found.length);
    expect(visibleRows(buildTree(tags), new Set(), true)).toHaveLength(10_000 + 1 + 10 + 100);
    // generous: it takes some 50 ms
    expect(performance.now() - before).toBeLessThan(2000);
  });
});

describe('search', () => {
  const found = (query: string): string[] => TAGS.filter(matcher(query)!).map((t) => t.path);

  test('finds in path, description and unit, in any case', () => {
    expect(found('LINE10')).toEqual(['site/line10/x']);
    expect(found('oven')).toEqual(['site/line2/a/temperature']);
    expect(found('°c')).toEqual(['site/line2/a/temperature']);
  });

  test('all words must occur', () => {
    expect(found('line2 run')).toEqual(['site/line2/a/run']);
    expect(found('line2 nothing')).toEqual([]);
  });

  test('blanks are no query', () => {
    expect(matcher('  ')).toBeNull();
  });
});
