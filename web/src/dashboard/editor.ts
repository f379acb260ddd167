/** Editing in the page: tiles are added, moved, sized, changed and deleted, by mouse and by keyboard, and all of it can be undone. */
import { Problem } from '../data/api';
import { checkDocument } from '../data/documents';
import type { Tag } from '../data/protocol';
import { el, setText } from '../ui/dom';
import { openMenu } from '../ui/menu';
import type { Board, Frame } from './board';
import { button, form } from './dialogs';
import { newTile, TILE_TYPES, type Dashboard, type Place, type Tile } from './document';
import { openEquipment } from './equipmentform';
import { fieldsOf } from './fields';
import { grab } from './grab';
import { clamp, freePlace, moveTo } from './layout';
import { openShifts } from './shiftsform';
import { strings } from './strings';
import { Undo } from './undo';

export interface EditorEvents {
  /** show another version of the document */
  readonly onChange: (dashboard: Dashboard) => void;
  readonly onSave: () => void;
  readonly onDone: () => void;
  readonly onDelete: () => void;
  readonly tags: () => ReadonlyMap<string, Tag>;
}

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
      el('div', { class: 'group' }, button(strings.settings, () => this.#settings()), button(strings.equipment.heading, () => this.#equipment()), button(strings.shifts.heading, () => openShifts(this.dashboard, this.#apply)), button(strings.json, () => this.#json()), button(strings.remove, () => events.onDelete())),
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

  #grab(down: PointerEvent): void {
    const frame = this.board.frameOf(down.target);
    if (frame === undefined || down.button !== 0 || !down.isPrimary) return;
    const before = this.dashboard;
    const { index } = frame;
    grab(down, frame, this.board, before.tiles, {
      onPreview: (place) => this.events.onChange(place === null ? before : { ...before, tiles: moveTo(before.tiles, index, place) }),
      onDrop: (place) => this.#place(index, place),
      onClick: () => this.#configure(frame),
    });
    if (down.pointerType === 'mouse') down.preventDefault();
    frame.element.focus({ preventScroll: true });
  }

  // --- the document

  /** Take a changed document in if it is as it has to be; what is wrong with it, or null. */
  #apply = async (next: Dashboard, prefix = ''): Promise<readonly string[] | null> => {
    const wrong = await faultsOf(next, prefix);
    if (wrong === null) this.#change(next);
    return wrong;
  };

  #equipment(): void {
    openEquipment({ dashboard: () => this.dashboard, tags: this.events.tags, apply: this.#apply });
  }

  #settings(): void {
    const title = el('input', { type: 'text', value: this.dashboard.title, autocomplete: 'off' });
    const description = el('textarea', { rows: 3 }, this.dashboard.description ?? '');
    const body = el('div', { class: 'fields' }, el('label', {}, el('span', {}, strings.fields.title), title), el('label', {}, el('span', {}, strings.fields.description), description));
    form(strings.settings, body, async () => {
      const { description: _old, ...rest } = this.dashboard;
      return this.#apply({ ...rest, title: title.value.trim(), ...(description.value.trim() === '' ? {} : { description: description.value.trim() }) });
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
      return this.#apply(next);
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
