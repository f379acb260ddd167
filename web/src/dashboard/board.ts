/** The tiles of a dashboard on their grid. */
import { el, icon, setText } from '../ui/dom';
import { type Dashboard, type Tile } from './document';
import { readingOrder, rows } from './layout';
import { strings } from './strings';
import type { Context, View } from './tiles/tile';
import { makeView } from './tiles';

export interface Frame {
  readonly element: HTMLElement;
  readonly heading: HTMLElement;
  readonly view: View;
  tile: Tile;
  /** among the tiles of the document */
  index: number;
}

/** What makes a view: all but where it stands. */
function essence({ x: _x, y: _y, w: _w, h: _h, ...rest }: Tile): string {
  return JSON.stringify(rest);
}

export class Board {
  readonly element = el('div', { class: 'board', tabindex: 0, role: 'group', 'aria-label': strings.title });
  frames: Frame[] = [];

  constructor(private readonly context: Context) {}

  /** Show a document; views of tiles that are the same as before stay. */
  show({ tiles }: Dashboard): void {
    const before = new Map<string, Frame[]>();
    for (const frame of this.frames) before.set(essence(frame.tile), [...(before.get(essence(frame.tile)) ?? []), frame]);
    this.frames = tiles.map((tile, index) => {
      const frame = before.get(essence(tile))?.shift() ?? this.#frame(tile);
      frame.tile = tile;
      frame.index = index;
      const { style } = frame.element;
      style.gridColumn = `${tile.x + 1} / span ${tile.w}`;
      style.gridRow = `${tile.y + 1} / span ${tile.h}`;
      style.setProperty('--rows', String(tile.h));
      frame.element.classList.toggle('narrow', tile.w <= 3);
      return frame;
    });
    this.element.style.setProperty('--board-rows', String(Math.max(1, rows(tiles))));
    const order = readingOrder(tiles).map((index) => this.frames[index]!.element);
    // moving an element takes the focus from it
    if (order.length !== this.element.children.length || order.some((element, i) => this.element.children[i] !== element)) this.element.replaceChildren(...order);
  }

  /** `age`: of what is shown, where that is what was known once. */
  update(now: number, age: string | null): void {
    this.element.classList.toggle('old', age !== null);
    for (const { element, view, heading, tile } of this.frames) {
      view.update(now);
      if (age === null || tile.type === 'text') delete element.dataset['age'];
      else element.dataset['age'] = age;
      setText(heading, tile.title ?? view.title());
    }
  }

  frameOf(node: EventTarget | null): Frame | undefined {
    return node instanceof Node ? this.frames.find(({ element }) => element.contains(node)) : undefined;
  }

  #frame(tile: Tile): Frame {
    const view = makeView(tile, this.context);
    const heading = el('h2', { class: 'tile-title' }, tile.title ?? view.title());
    const plain = tile.type === 'text' && (tile.title ?? '') === '';
    const element = el(
      'div',
      { class: `tile ${plain ? 'plain' : ''}`, role: 'group', 'data-type': tile.type, 'aria-label': tile.title ?? (tile.type === 'text' ? tile.text : view.title()) },
      plain ? '' : heading,
      el('div', { class: 'tile-body' }, view.element),
      el('span', { class: 'tile-move', 'aria-hidden': 'true' }, icon('move')),
      el('span', { class: 'tile-size', 'aria-hidden': 'true' }),
    );
    return { element, heading, view, tile, index: 0 };
  }
}
