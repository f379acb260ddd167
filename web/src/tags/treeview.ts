/** The tag tree on the screen: search box and a list that only holds the lines in view. */
import './tree.css';
import { el, icon, setText } from '../ui/dom';
import type { Tag } from '../data/protocol';
import { branchTags, buildTree, type Folder, initiallyOpen, matcher, type Row, visibleRows } from './tree';
import { text } from '../ui/strings';

/** The type under which dragged tags carry their paths, as JSON. */
export const DRAGGED = 'application/x-historian-tags';

const ROW = 24;
/** Letters that follow each other faster are one word. */
const TYPING_MS = 800;
/** Lines beyond the edges, so that scrolling does not show blanks. */
const MARGIN = 8;

const GLYPHS: Record<Tag['kind'], string> = { float: '~', int: '#', bool: '◐', digital: '≡', text: 'T' };

export interface TreeEvents {
  readonly onToggle: (tag: Tag) => void;
  /** all tags of a folder, or, in a search, those found in it */
  readonly onBranch: (tags: readonly Tag[]) => void;
  /** the colour of a tag that is a pen */
  readonly colorOf: (tag: Tag) => string | null;
}

export class TreeView {
  readonly element: HTMLElement;
  readonly search: HTMLInputElement;
  #scroller: HTMLElement;
  #canvas: HTMLElement;
  #count: HTMLElement;
  #tags: readonly Tag[] = [];
  #root: Folder = buildTree([]);
  #open: Set<string> | null = null;
  #rows: Row[] = [];
  #active = 0;
  /** letters that were typed to find a name */
  #typed = { letters: '', at: -Infinity };

  constructor(private readonly events: TreeEvents) {
    this.search = el('input', {
      type: 'search',
      class: 'search-input',
      placeholder: text.searchTags,
      'aria-label': text.searchTagsBy,
      'aria-controls': 'tag-tree',
      spellcheck: 'false',
      autocomplete: 'off',
      oninput: () => {
        this.#active = 0;
        this.#scroller.scrollTop = 0;
        this.#list();
      },
      onkeydown: (event) => this.#searchKey(event as KeyboardEvent),
    });
    this.#canvas = el('div', { class: 'tree-canvas', role: 'presentation' });
    this.#scroller = el(
      'div',
      { class: 'tree', id: 'tag-tree', role: 'tree', 'aria-label': text.tags, 'aria-multiselectable': true, tabindex: 0, onscroll: () => this.#render(), onkeydown: (event) => this.#key(event as KeyboardEvent) },
      this.#canvas,
    );
    this.#count = el('div', { class: 'tree-count', 'aria-live': 'polite' });
    this.element = el('div', { class: 'tags' }, el('label', { class: 'search' }, icon('search'), this.search), this.#scroller, this.#count);
    new ResizeObserver(() => this.#render()).observe(this.#scroller);
  }

  setTags(tags: readonly Tag[], pens: readonly string[]): void {
    this.#tags = tags;
    this.#open ??= tags.length > 0 ? initiallyOpen(buildTree(tags), pens) : null;
    this.#list();
  }

  /** The pens or their colours have changed. */
  refresh(): void {
    this.#render();
  }

  #list(): void {
    const matches = matcher(this.search.value);
    const tags = matches === null ? this.#tags : this.#tags.filter(matches);
    this.#root = buildTree(tags);
    this.#rows = visibleRows(this.#root, this.#open ?? new Set(), matches !== null);
    this.#active = Math.max(0, Math.min(this.#active, this.#rows.length - 1));
    setText(this.#count, matches === null ? text.allTags(tags.length) : text.foundTags(tags.length, this.#tags.length));
    this.#canvas.style.height = `${this.#rows.length * ROW}px`;
    this.#render();
  }

  #render(): void {
    const first = Math.max(0, Math.floor(this.#scroller.scrollTop / ROW) - MARGIN);
    const last = Math.min(this.#rows.length, Math.ceil((this.#scroller.scrollTop + this.#scroller.clientHeight) / ROW) + MARGIN);
    const lines: HTMLElement[] = [];
    for (let i = first; i < last; i++) lines.push(this.#line(this.#rows[i]!, i));
    this.#canvas.replaceChildren(...lines);
    if (this.#active >= first && this.#active < last) this.#scroller.setAttribute('aria-activedescendant', `tree-row-${this.#active}`);
    else this.#scroller.removeAttribute('aria-activedescendant');
  }

  #line(row: Row, i: number): HTMLElement {
    const line = el('div', {
      class: `tree-row tree-${row.kind}${i === this.#active ? ' active' : ''}`,
      id: `tree-row-${i}`,
      role: 'treeitem',
      'aria-level': row.level + 1,
      // only lines in view are in the page
      'aria-posinset': row.place,
      'aria-setsize': row.of,
      draggable: 'true',
      ondragstart: (event) => {
        const paths = row.kind === 'tag' ? [row.tag.path] : branchTags(row.folder).map((tag) => tag.path);
        (event as DragEvent).dataTransfer?.setData(DRAGGED, JSON.stringify(paths));
      },
      onclick: () => {
        this.#active = i;
        this.#activate(row);
      },
    });
    line.style.top = `${i * ROW}px`;
    line.style.paddingLeft = `${8 + row.level * 13}px`;
    if (row.kind === 'folder') {
      line.setAttribute('aria-expanded', String(row.open));
      line.append(
        el('span', { class: 'twist', 'aria-hidden': 'true' }, row.open ? '▾' : '▸'),
        el('span', { class: 'tree-name' }, row.folder.name),
        el(
          'button',
          {
            class: 'branch',
            type: 'button',
            // the tree has one tab stop; its key is Shift+Enter
            tabindex: -1,
            'aria-label': text.addBranch(row.folder.path),
            title: text.addBranchTitle,
            onclick: (event) => {
              event.stopPropagation();
              this.#active = i;
              this.#branch(row.folder);
            },
          },
          icon('plus'),
        ),
        el('span', { class: 'tree-side' }, String(row.folder.count)),
      );
      return line;
    }
    const { tag } = row;
    const color = this.events.colorOf(tag);
    line.dataset['path'] = tag.path;
    line.title = [tag.path, tag.description, color === null ? text.addPen : text.removePen].filter(Boolean).join('\n');
    line.setAttribute('aria-selected', String(color !== null));
    const mark = el('span', { class: 'mark', 'aria-hidden': 'true' }, color === null ? GLYPHS[tag.kind] : '');
    if (color !== null) {
      line.classList.add('picked');
      line.style.setProperty('--pen', color);
    }
    line.append(mark, el('span', { class: 'tree-name' }, row.name), el('span', { class: 'tree-side' }, tag.unit ?? ''), el('span', { class: 'unseen' }, tag.description ?? ''));
    return line;
  }

  #activate(row: Row): void {
    if (row.kind === 'tag') {
      this.events.onToggle(row.tag);
      this.#render();
    } else {
      this.#setOpen(row.folder, !row.open);
    }
  }

  #branch(folder: Folder): void {
    this.events.onBranch(branchTags(folder));
    this.#render();
  }

  #setOpen(folder: Folder, open: boolean): void {
    // in the results of a search all is open
    if (matcher(this.search.value) !== null) return;
    this.#open ??= new Set();
    if (open) this.#open.add(folder.path);
    else this.#open.delete(folder.path);
    this.#list();
  }

  #searchKey(event: KeyboardEvent): void {
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      this.#scroller.focus();
    } else if (event.key === 'Escape' && this.search.value !== '') {
      this.search.value = '';
      this.#list();
      event.stopPropagation();
    } else if (event.key === 'Enter') {
      const tags = this.#rows.filter((row) => row.kind === 'tag');
      if (tags.length === 1 && tags[0]) this.#activate(tags[0]);
    }
  }

  /** To the next line whose name begins with what has been typed. */
  #seek(letter: string, at: number): void {
    const before = at - this.#typed.at < TYPING_MS ? this.#typed.letters : '';
    const letters = before + letter.toLowerCase();
    this.#typed = { letters, at };
    const from = before === '' ? this.#active + 1 : this.#active;
    const name = (row: Row): string => (row.kind === 'tag' ? row.name : row.folder.name).toLowerCase();
    for (let i = 0; i < this.#rows.length; i++) {
      const place = (from + i) % this.#rows.length;
      if (!name(this.#rows[place]!).startsWith(letters)) continue;
      this.#active = place;
      return;
    }
  }

  #key(event: KeyboardEvent): void {
    const row = this.#rows[this.#active];
    if (row === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / ROW) - 1);
    const moves: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const by = moves[event.key];
    if (by !== undefined) this.#active = Math.max(0, Math.min(this.#rows.length - 1, this.#active + by));
    else if (event.key === 'Enter' && event.shiftKey && row.kind === 'folder') this.#branch(row.folder);
    else if (event.key === 'Enter' || event.key === ' ') this.#activate(row);
    else if (event.key === 'ArrowRight' && row.kind === 'folder') row.open ? this.#active++ : this.#setOpen(row.folder, true);
    else if (event.key === 'ArrowLeft' && row.kind === 'folder' && row.open) this.#setOpen(row.folder, false);
    else if (event.key === 'ArrowLeft') {
      while (this.#active > 0 && this.#rows[this.#active]!.level >= row.level) this.#active--;
    } else if (/^[\p{L}\p{N}]$/u.test(event.key)) this.#seek(event.key, event.timeStamp);
    else return;
    event.preventDefault();
    event.stopPropagation();
    const top = this.#active * ROW;
    if (top < this.#scroller.scrollTop) this.#scroller.scrollTop = top;
    else if (top + ROW > this.#scroller.scrollTop + this.#scroller.clientHeight) this.#scroller.scrollTop = top + ROW - this.#scroller.clientHeight;
    this.#render();
  }
}
