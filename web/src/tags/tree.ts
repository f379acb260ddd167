/** The tag tree: the levels of the paths, what is open, and search; no DOM. Fit for tens of thousands of tags. */
import type { Tag } from '../data/protocol';

export interface Folder {
  readonly name: string;
  readonly path: string;
  readonly folders: Map<string, Folder>;
  readonly tags: Tag[];
  /** tags here and below */
  count: number;
}

/** A visible line of the tree. */
export type Row =
  | ({ readonly kind: 'folder'; readonly folder: Folder; readonly open: boolean } & Place)
  | ({ readonly kind: 'tag'; readonly tag: Tag; readonly name: string } & Place);

/** Where a line stands: how deep, and which it is of those beside it, from 1. */
interface Place {
  readonly level: number;
  readonly place: number;
  readonly of: number;
}

function folder(name: string, path: string): Folder {
  return { name, path, folders: new Map(), tags: [], count: 0 };
}

export function lastLevel(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The path above the last level, or ''. */
export function parentPath(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

export function buildTree(tags: readonly Tag[]): Folder {
  const root = folder('', '');
  for (const tag of tags) {
    let at = root;
    at.count++;
    const parent = parentPath(tag.path);
    for (const name of parent === '' ? [] : parent.split('/')) {
      let next = at.folders.get(name);
      if (next === undefined) {
        next = folder(name, at.path === '' ? name : `${at.path}/${name}`);
        at.folders.set(name, next);
      }
      at = next;
      at.count++;
    }
    at.tags.push(tag);
  }
  return root;
}

/** Search by words: all of them must occur in path, description or unit, in any case. */
export function matcher(query: string): ((tag: Tag) => boolean) | null {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return null;
  return (tag) => {
    const text = `${tag.path}\n${tag.description ?? ''}\n${tag.unit ?? ''}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
}

/** The lines to show. `everything`: all folders are open, as in the results of a search. */
export function visibleRows(root: Folder, open: ReadonlySet<string>, everything = false): Row[] {
  const rows: Row[] = [];
  const compare = new Intl.Collator('en', { numeric: true }).compare;
  const visit = (at: Folder, level: number): void => {
    const of = at.folders.size + at.tags.length;
    let place = 0;
    for (const child of [...at.folders.values()].sort((a, b) => compare(a.name, b.name))) {
      const isOpen = everything || open.has(child.path);
      rows.push({ kind: 'folder', level, place: ++place, of, folder: child, open: isOpen });
      if (isOpen) visit(child, level + 1);
    }
    const tags = at.tags.map((tag) => ({ tag, name: lastLevel(tag.path) })).sort((a, b) => compare(a.name, b.name));
    for (const { tag, name } of tags) rows.push({ kind: 'tag', level, place: ++place, of, tag, name });
  };
  visit(root, 0);
  return rows;
}

/** All tags of a folder, in the order of the lines. */
export function branchTags(of: Folder): Tag[] {
  return visibleRows(of, new Set(), true).flatMap((row) => (row.kind === 'tag' ? [row.tag] : []));
}

/** What is open at first: down to where there is a choice, and the folders of the pens. */
export function initiallyOpen(root: Folder, pens: readonly string[]): Set<string> {
  const open = new Set<string>();
  for (let at = root; ; ) {
    const only = at.folders.size === 1 && at.tags.length === 0 ? [...at.folders.values()][0] : undefined;
    if (only === undefined) break;
    open.add(only.path);
    at = only;
  }
  for (const path of pens) {
    for (let parent = parentPath(path); parent !== ''; parent = parentPath(parent)) open.add(parent);
  }
  return open;
}
