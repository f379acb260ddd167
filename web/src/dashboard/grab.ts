/**
 * A press on a tile that is being edited: a click opens its form, a drag moves it, a drag of its corner sizes it. On a small screen, where tiles stand in reading
 * order and a finger scrolls, it is taken by its handles: it goes before or behind the tile that it is dragged onto, and is as wide as the screen or half of it.
 */
import type { Board, Frame } from './board';
import { COLUMNS, type Place, type Tile } from './document';
import { clamp, readingOrder } from './layout';

export interface GrabEvents {
  /** show it there; null: where it was */
  readonly onPreview: (place: Place | null) => void;
  readonly onDrop: (place: Place) => void;
  readonly onClick: () => void;
}

/** So far the pointer goes before a click becomes a move, pixels. */
const DRAG = 5;
/** Columns of a tile on a small screen: as wide as it, and half of it. */
const [FULL, HALF] = [6, 3];
/** So near to the edge of the screen the page scrolls along, and by so much each frame, pixels. */
const EDGE = 56;
const SCROLL = 7;

export function grab(down: PointerEvent, frame: Frame, board: Board, tiles: readonly Tile[], events: GrabEvents): void {
  const target = down.target as Element;
  const sizing = target.closest('.tile-size') !== null;
  const handle = sizing || target.closest('.tile-move') !== null;
  const narrow = getComputedStyle(board.element).getPropertyValue('--narrow').trim() === '1';
  const scroller = narrow ? (board.element.parentElement ?? board.element) : board.element;
  const start = scroller.scrollTop;
  const grid = gridOf(board, frame);
  // each preview gives the frame another one
  const { tile } = frame;
  let at: MouseEvent = down;
  let place: Place = tile;
  let dragging = false;
  const follow = new AbortController();

  const update = (): void => {
    const [dx, dy] = [at.clientX - down.clientX, at.clientY - down.clientY + scroller.scrollTop - start];
    if ((narrow && !handle) || (!dragging && Math.hypot(dx, dy) < DRAG)) return;
    if (!dragging) requestAnimationFrame(scroll);
    dragging = true;
    frame.element.classList.add('grabbed');
    const next = narrow ? (sizing ? sizedOnSmall(tile, dx / grid.width, dy / grid.row) : movedOnSmall(board, frame, tiles, at, place)) : onGrid(tile, sizing, dx / grid.column, dy / grid.row);
    if (next.x === place.x && next.y === place.y && next.w === place.w && next.h === place.h) return;
    place = next;
    events.onPreview(place);
  };
  const scroll = (): void => {
    if (follow.signal.aborted) return;
    const { top, bottom } = scroller.getBoundingClientRect();
    const by = at.clientY < top + EDGE ? -SCROLL : at.clientY > bottom - EDGE ? SCROLL : 0;
    const before = scroller.scrollTop;
    scroller.scrollTop += by;
    if (scroller.scrollTop !== before) update();
    requestAnimationFrame(scroll);
  };
  const end = (event: PointerEvent): void => {
    if (event.pointerId !== down.pointerId) return;
    follow.abort();
    frame.element.classList.remove('grabbed');
    if (event.type === 'pointercancel') events.onPreview(null);
    else if (dragging) events.onDrop(place);
    else events.onClick();
  };
  const move = (event: PointerEvent): void => {
    if (event.pointerId !== down.pointerId) return;
    at = event;
    update();
  };
  document.addEventListener('pointermove', move, { signal: follow.signal });
  document.addEventListener('pointerup', end, { signal: follow.signal });
  document.addEventListener('pointercancel', end, { signal: follow.signal });
}

/** Steps of the grid, and the width of the board, CSS pixels. */
function gridOf({ element }: Board, frame: Frame): { column: number; row: number; width: number } {
  const style = getComputedStyle(element);
  const gap = parseFloat(style.columnGap) || 0;
  const width = element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return { column: (width + gap) / COLUMNS, row: (frame.element.offsetHeight + gap) / frame.tile.h, width };
}

function onGrid(tile: Tile, sizing: boolean, columns: number, rows: number): Place {
  const [right, below] = [Math.round(columns), Math.round(rows)];
  return clamp(sizing ? { ...tile, w: Math.min(COLUMNS - tile.x, tile.w + right), h: tile.h + below } : { ...tile, x: tile.x + right, y: tile.y + below });
}

/** `across`: how far the corner was dragged, as a part of the screen's width. A tile of half the width has one height. */
export function sizedOnSmall(tile: Place, across: number, rows: number): Place {
  const [half, turned] = [tile.w <= HALF, Math.abs(across) > 0.25];
  const w = half && turned && across > 0 ? FULL : !half && turned && across < 0 ? HALF : tile.w;
  return clamp({ x: Math.min(tile.x, COLUMNS - w), y: tile.y, w, h: w <= HALF ? tile.h : tile.h + Math.round(rows) });
}

/** Before the tile that is under the pointer if that stands before it, else behind it; `now`: where it is while there is none. */
function movedOnSmall(board: Board, frame: Frame, tiles: readonly Tile[], { clientX, clientY }: MouseEvent, now: Place): Place {
  const over = board.frameOf(document.elementFromPoint(clientX, clientY));
  const onto = over === undefined || over === frame ? undefined : tiles[over.index];
  return onto === undefined ? now : besides(tiles, frame.index, over!.index);
}

/** The place of a tile that was dragged onto another one. */
export function besides(tiles: readonly Place[], index: number, onto: number): Place {
  const [tile, other] = [tiles[index]!, tiles[onto]!];
  const order = readingOrder(tiles);
  const behind = order.indexOf(onto) > order.indexOf(index);
  return clamp({ x: other.x, y: behind ? other.y + other.h : other.y, w: Math.min(tile.w, COLUMNS - other.x), h: tile.h });
}
