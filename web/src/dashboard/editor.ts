/** Editing in the page: tiles are added, moved, sized, changed and deleted, by mouse and by keyboard, and all of it can be undone. */
import { Problem } from '../data/api';
import { checkDocument } from '../data/documents';
import { el, setText } from '../ui/dom';
import { openMenu } from '../ui/menu';
import type { Board, Frame } from './board';
import { button, form } from './dialogs';
import { newTile, TILE_TYPES, type Dashboard, type Place, type Tile } from './document';
import { fieldsOf } from './fields';
import { clamp, freePlace, moveTo } from './layout';
import { strings } from './strings';
import { Undo } from './undo';

export interface EditorEvents {
  /** show another version of the document */
  readonly onChange: (dashboard: Dashboard) => void;
  readonly onSave: () => void;
  readonly onDone: () => void;
  readonly onDelete: () => void;
  readonly tags: () => Iterable<string>;
}

/** So far the pointer goes before a click becomes a move, pixels. */
const DRAG = 5;
const ARROWS: Readonly<Record<string, readonly [number, number]>> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Editor {
  readonly bar: HTMLElement;
  #undo: Undo<Dashboard>;
  #saved: Dashboard;
  #buttons: Record<'undo' | 'redo' | 'save', HTMLButtonElement>;
  #state = el('span', { class: 'edit-state', role: 'status' });
  #ended = new AbortController();

  constructor(
    dashboard: Dashboard,
    /** of a new one nothing is saved */
    saved: boolean,
    private readonly board: Board,
    private readonly events: EditorEvents,
  ) {
    this.#undo = new Undo(dashboard);
    this.#saved = saved ? dashboard : { ...dashboard };
    this.#buttons = {
      undo: button(strings.undo, () => this.#step('undo'), { title: `${strings.undo} (Ctrl Z)` }),
      redo: button(strings.redo, () => this.#step('redo'), { title: `${strings.redo} (Ctrl Shift Z)` }),
      save: button(strings.save, () => events.onSave(), { class: 'save' }),
    };
    this.bar = el(
      'div',
      { class: 'edit-bar', role: 'region', 'aria-label': strings.edit },
      el('div', { class: 'group' }, button(strings.add, (of) => openMenu(of, strings.add, [{ items: TILE_TYPES.map((type) => ({ label: strings.types[type], action: () => this.#add(type) })) }]), { 'aria-haspopup': 'menu' })),
      el('div', { class: 'group' }, this.#buttons.undo, this.#buttons.redo),
      el('div', { class: 'group' }, button(strings.settings, () => this.#settings()), button(strings.json, () => this.#json()), button(strings.remove, () => events.onDelete())),
      el('div', { class: 'group' }, this.#buttons.save, button(strings.done, () => events.onDone())),
      this.#state,
      el('p', { class: 'edit-help', id: 'edit-help' }, strings.editing),
    );
    const { signal } = this.#ended;
    board.element.classList.add('editing');
    board.element.addEventListener('pointerdown', (event) => this.#grab(event), { signal });
    board.element.addEventListener('keydown', (event) => this.#key(event), { signal });
    document.addEventListener('keydown', (event) => this.#undoKey(event), { signal });
    this.#refresh();
  }

  get dashboard(): Dashboard {
    return this.#undo.current;
  }

  get dirty(): boolean {
    return this.#undo.current !== this.#saved;
  }

  /** What is now is on the server. */
  saved(): void {
    this.#saved = this.#undo.current;
    this.#refresh();
    setText(this.#state, strings.saved);
  }

  end(): void {
    this.#ended.abort();
    this.board.element.classList.remove('editing');
    for (const { element } of this.board.frames) for (const name of ['tabindex', 'aria-describedby']) element.removeAttribute(name);
    this.bar.remove();
  }

  #change(dashboard: Dashboard): void {
    this.#undo.change(dashboard);
    this.#refresh();
  }

  #step(way: 'undo' | 'redo'): void {
    this.#undo[way]();
    this.#refresh();
  }

  #refresh(): void {
    this.events.onChange(this.#undo.current);
    for (const { element } of this.board.frames) {
      element.tabIndex = 0;
      element.setAttribute('aria-describedby', 'edit-help');
    }
    this.#buttons.undo.disabled = !this.#undo.canUndo;
    this.#buttons.redo.disabled = !this.#undo.canRedo;
    this.#buttons.save.disabled = !this.dirty;
    setText(this.#state, this.dirty ? strings.unsaved : '');
  }

  // --- tiles

  #withTiles(tiles: readonly Tile[]): Dashboard {
    return { ...this.dashboard, tiles };
  }

  #add(type: Tile['type']): void {
    const tile = newTile(type, Object.keys(this.dashboard.equipment ?? {})[0] ?? '');
    const placed = { ...tile, ...freePlace(this.dashboard.tiles, tile.w, tile.h) };
    this.#form(placed, (made) => this.#withTiles([...this.dashboard.tiles, made]), this.dashboard.tiles.length);
  }

  #configure({ tile, index }: Frame): void {
    const remove = button(strings.deleteTile, () => {
      dialog.close();
      this.#remove(index);
    }, { class: 'danger' });
    const dialog = this.#form(tile, (made) => this.#withTiles(this.dashboard.tiles.map((old, i) => (i === index ? made : old))), index, [remove]);
  }

  #form(tile: Tile, apply: (made: Tile) => Dashboard, index: number, more: HTMLElement[] = []): HTMLDialogElement {
    const fields = fieldsOf(tile, this.events.tags(), Object.keys(this.dashboard.equipment ?? {}));
    return form(
      strings.configure(strings.types[tile.type]),
      fields.element,
      async () => {
        let next: Dashboard;
        try {
          next = apply(fields.read());
        } catch (error) {
          return [strings.badJson(String(error))];
        }
        const wrong = await faultsOf(next, `tiles[${index}].`);
        if (wrong === null) {
          this.#change(next);
          this.#focus(index);
        }
        return wrong;
      },
      more,
    );
  }

  #remove(index: number): void {
    this.#change(this.#withTiles(this.dashboard.tiles.filter((_, i) => i !== index)));
    this.#focus(Math.min(index, this.dashboard.tiles.length - 1));
  }

  #focus(index: number): void {
    this.board.frames.find((frame) => frame.index === index)?.element.focus();
  }

  #key(event: KeyboardEvent): void {
    const frame = this.board.frameOf(event.target);
    if (frame === undefined || event.target !== frame.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow !== undefined) {
      const { x, y, w, h } = frame.tile;
      const [right, down] = arrow;
      this.#place(frame.index, event.shiftKey ? { x, y, w: w + right, h: h + down } : { x: x + right, y: y + down, w, h });
    } else if (event.key === 'Enter') this.#configure(frame);
    else if (event.key === 'Delete' || event.key === 'Backspace') this.#remove(frame.index);
    else return;
    event.preventDefault();
  }

  #undoKey(event: KeyboardEvent): void {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== 'z' || document.querySelector('dialog[open]') !== null) return;
    event.preventDefault();
    this.#step(event.shiftKey ? 'redo' : 'undo');
  }

  #place(index: number, place: Place): void {
    const before = this.dashboard.tiles[index]!;
    const to = clamp(place.x + place.w > 12 ? { ...place, w: 12 - place.x } : place);
    if (to.x === before.x && to.y === before.y && to.w === before.w && to.h === before.h) return;
    this.#change(this.#withTiles(moveTo(this.dashboard.tiles, index, to)));
    this.#focus(index);
    setText(this.#state, strings.moved(to.x, to.y, to.w, to.h));
  }

  /** A press on a tile: a click opens its form, a drag moves it, one at its corner sizes it. */
  #grab(down: PointerEvent): void {
    const frame = this.board.frameOf(down.target);
    if (frame === undefined || down.button !== 0) return;
    const { element } = this.board;
    const { index, tile } = frame;
    const sizing = (down.target as Element).classList.contains('tile-size');
    const style = getComputedStyle(element);
    // on a small screen tiles stand in reading order, and not where the document has them
    const narrow = style.getPropertyValue('--narrow').trim() === '1';
    const gap = parseFloat(style.columnGap) || 0;
    const column = (element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) + gap) / 12;
    const row = (frame.element.offsetHeight + gap) / tile.h;
    const before = this.dashboard;
    const start = element.scrollTop;
    let place: Place = tile;
    let dragging = false;
    const follow = new AbortController();
    const move = (event: PointerEvent): void => {
      const [dx, dy] = [event.clientX - down.clientX, event.clientY - down.clientY + element.scrollTop - start];
      if (narrow || (!dragging && Math.hypot(dx, dy) < DRAG)) return;
      dragging = true;
      frame.element.classList.add('grabbed');
      const [right, below] = [Math.round(dx / column), Math.round(dy / row)];
      const next = clamp(sizing ? { ...tile, w: Math.min(12 - tile.x, tile.w + right), h: tile.h + below } : { ...tile, x: tile.x + right, y: tile.y + below });
      if (next.x === place.x && next.y === place.y && next.w === place.w && next.h === place.h) return;
      place = next;
      this.events.onChange({ ...before, tiles: moveTo(before.tiles, index, place) });
    };
    const end = (event: PointerEvent): void => {
      follow.abort();
      frame.element.classList.remove('grabbed');
      if (event.type === 'pointercancel') this.events.onChange(before);
      else if (dragging) this.#place(index, place);
      else this.#configure(frame);
    };
    document.addEventListener('pointermove', move, { signal: follow.signal });
    document.addEventListener('pointerup', end, { signal: follow.signal });
    document.addEventListener('pointercancel', end, { signal: follow.signal });
    if (down.pointerType === 'mouse') down.preventDefault();
    frame.element.focus();
  }

  // --- the document

  #settings(): void {
    const title = el('input', { type: 'text', value: this.dashboard.title, autocomplete: 'off' });
    const description = el('textarea', { rows: 3 }, this.dashboard.description ?? '');
    const body = el('div', { class: 'fields' }, el('label', {}, el('span', {}, strings.fields.title), title), el('label', {}, el('span', {}, strings.fields.description), description));
    form(strings.settings, body, async () => {
      const { description: _old, ...rest } = this.dashboard;
      const next = { ...rest, title: title.value.trim(), ...(description.value.trim() === '' ? {} : { description: description.value.trim() }) };
      const wrong = await faultsOf(next);
      if (wrong === null) this.#change(next);
      return wrong;
    });
  }

  #json(): void {
    const text = el('textarea', { class: 'code', rows: 24, spellcheck: 'false', 'aria-label': strings.json }, JSON.stringify(this.dashboard, null, 2));
    form(strings.json, text, async () => {
      let next: Dashboard;
      try {
        next = JSON.parse(text.value) as Dashboard;
      } catch (error) {
        return [strings.badJson((error as SyntaxError).message)];
      }
      const wrong = await faultsOf(next);
      if (wrong === null) this.#change(next);
      return wrong;
    });
  }
}

/** What the server finds wrong with a document, or null; of paths that begin with `prefix` the rest is shown. */
async function faultsOf(dashboard: Dashboard, prefix = ''): Promise<string[] | null> {
  try {
    await checkDocument('dashboards', dashboard);
    return null;
  } catch (error) {
    if (!(error instanceof Problem)) return [strings.unreachable];
    if (error.faults.length === 0) return [error.message];
    return error.faults.map(({ path, detail }) => (path === undefined ? detail : `${path.startsWith(prefix) ? path.slice(prefix.length) : path}: ${detail}`));
  }
}
