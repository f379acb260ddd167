/**
 * The lines below the chart: one for each pen with its value at the mouse, or its newest, and its extremes; with cursors, what lies at them and between; with
 * statistics, those of the window or between the cursors.
 */
import './readout.css';
import type { Cursors } from '../chart/cursors';
import { extent } from '../chart/trace';
import { judge } from '../data/limits';
import type { Pen } from '../pens/pen';
import { lastLevel, parentPath } from '../tags/tree';
import { day, HOUR, timeOfDay, type Window } from '../time/spans';
import { announce } from '../ui/announce';
import { el, icon, setText } from '../ui/dom';
import { decimalsOf, formatNumber, formatSample, qualityName } from '../ui/format';
import { text } from '../ui/strings';
import { currentTheme, penColor, penInk } from '../ui/theme';
import { LimitWatch, readValues, summary } from './spoken';
import type { Statistics } from './statistics';

export interface ReadoutEvents {
  readonly onRemove: (pen: Pen) => void;
  /** colour, scale, limits: asked for beside `anchor` */
  readonly onStyle: (pen: Pen, anchor: HTMLElement) => void;
  readonly onHighlight: (pen: Pen | null) => void;
}

export interface ReadoutState {
  /** where the mouse is; null shows the newest values */
  readonly cursor: number | null;
  readonly window: Window;
  readonly live: boolean;
  readonly cursors: Cursors | null;
  /** null: not wanted */
  readonly statistics: ReadonlyMap<Pen, Statistics> | null;
}

type Column = keyof typeof text.columns;

const ALWAYS: readonly Column[] = ['newest', 'unit', 'quality'];
const PLAIN: readonly Column[] = ['time', 'min', 'max'];
const CURSORS: readonly Column[] = ['a', 'b', 'difference', 'slope'];
const STATISTICS: readonly Column[] = ['min', 'max', 'mean', 'deviation', 'good', 'count'];

interface Line {
  readonly row: HTMLTableRowElement;
  readonly cells: ReadonlyMap<Column, HTMLElement>;
}

export class Readout {
  readonly element: HTMLElement;
  #head = el('thead');
  #body = el('tbody');
  #newest = el('th', { scope: 'col', class: 'col-value' });
  #lines = new Map<Pen, Line>();
  #empty = el('p', { class: 'readout-empty' }, text.noPens);
  #pens: readonly Pen[] = [];
  #columns: readonly Column[] = [];
  #summary = el('p', { class: 'unseen', id: 'chart-summary' });
  #limits = new LimitWatch();
  #reading = false;

  constructor(private readonly events: ReadoutEvents) {
    const table = el('table', {}, el('caption', { class: 'unseen' }, text.pens), this.#head, this.#body);
    this.element = el('section', { class: 'readout', 'aria-label': text.pens, onmouseleave: () => events.onHighlight(null), onfocusout: () => events.onHighlight(null) }, this.#summary, table, this.#empty);
  }

  setPens(pens: readonly Pen[]): void {
    this.#pens = pens;
    this.#columns = [];
    this.#empty.hidden = pens.length > 0;
  }

  update(state: ReadoutState): void {
    const { cursor, live, cursors, statistics } = state;
    const columns = [...ALWAYS, ...(cursors === null && statistics === null ? PLAIN : []), ...(cursors === null ? [] : CURSORS), ...(statistics === null ? [] : STATISTICS)];
    if (columns.join() !== this.#columns.join()) this.#rebuild(columns);
    setText(this.#newest, cursor !== null ? text.columns.atCursor : live ? text.columns.newest : text.columns.atEnd);
    for (const [pen, line] of this.#lines) this.#updateLine(pen, line, state);
    setText(this.#summary, `${summary(this.#pens.length, state.window, live)} ${text.chartHelp}`);
    if (this.#reading) announce(readValues(this.#pens, state));
    this.#reading = false;
    if (live) for (const passed of this.#limits.passed(this.#pens)) announce(passed);
  }

  /** Read the values out that are shown, once they are those of now. */
  read(): void {
    this.#reading = true;
  }

  #updateLine(pen: Pen, { row, cells }: Line, { cursor, window, live, cursors, statistics }: ReadoutState): void {
    const store = pen.shown;
    const sample = cursor !== null ? store.at(store.before(cursor)) : live ? store.last() : store.at(store.before(window.to));
    const decimals = decimalsOf(store);
    const number = (value: number | null | undefined, more = 0): string => (value === null || value === undefined || Number.isNaN(value) ? '' : formatNumber(value, decimals + more));
    const quality = sample === null ? null : qualityName(sample.quality);
    row.dataset['quality'] = quality ?? 'none';
    const judged = judge(sample === null || quality === 'bad' ? NaN : sample.value, pen.limits);
    row.dataset['level'] = judged.level;
    cells.get('newest')!.dataset['mark'] = judged.mark;
    const put = (column: Column, what: () => string): void => {
      const cell = cells.get(column);
      if (cell !== undefined) setText(cell, what());
    };
    put('newest', () => formatSample(pen.tag, sample, decimals));
    put('quality', () => (quality === null || sample === null ? '' : quality === 'good' ? text.quality.good : `${text.quality[quality]} (${sample.quality})`));
    put('time', () => (sample === null ? '' : timeOfDay(sample.ts, 3)));
    const time = cells.get('time');
    if (time !== undefined) time.title = sample === null ? '' : `${day(sample.ts)} ${timeOfDay(sample.ts, 6)} (${new Date(sample.ts / 1000).toISOString()})`;
    if (cursors !== null) {
      const [a, b] = [cursors.a, cursors.b].map((ts) => (pen.lane ? null : store.valueAt(ts, pen.tag.step))) as [number | null, number | null];
      const at = (ts: number, value: number | null): string => (pen.lane ? formatSample(pen.tag, store.at(store.before(ts))) : number(value));
      put('a', () => at(cursors.a, a));
      put('b', () => at(cursors.b, b));
      const difference = a === null || b === null ? null : b - a;
      put('difference', () => number(difference));
      put('slope', () => (difference === null || cursors.a === cursors.b ? '' : `${formatNumber((difference / (cursors.b - cursors.a)) * HOUR)}/h`));
    }
    if (statistics !== null) {
      const of = statistics.get(pen);
      put('min', () => number(of?.min));
      put('max', () => number(of?.max));
      put('mean', () => number(of?.mean, 1));
      put('deviation', () => number(of?.deviation, 1));
      put('good', () => (of === undefined || Number.isNaN(of.good) ? '' : `${formatNumber(of.good, of.good === 100 ? 0 : 2)} %`));
      put('count', () => (of === undefined ? '' : formatNumber(of.count, 0)));
    } else if (cells.has('min')) {
      const seen = pen.lane ? null : extent(store, window, pen.tag.step);
      put('min', () => number(seen?.min));
      put('max', () => number(seen?.max));
    }
  }

  #rebuild(columns: readonly Column[]): void {
    this.#columns = columns;
    const wide = columns.length > ALWAYS.length + PLAIN.length;
    this.element.classList.toggle('wide', wide);
    const head = (of: Column | null, name: string): HTMLElement => {
      const title = of === null ? undefined : (text.columnTitles as Partial<Record<Column, string>>)[of];
      const seen = of === null ? el('span', { class: 'unseen' }, name === 'col-color' ? text.columnColour : text.columnRemove) : text.columns[of];
      return el('th', { scope: 'col', class: name, title }, seen);
    };
    const heads = columns.map((column) => (column === 'newest' ? this.#newest : head(column, classOf(column))));
    this.#head.replaceChildren(el('tr', {}, head(null, 'col-color'), head('tag', 'col-tag'), head('description', 'col-description'), ...heads, head(null, 'col-remove')));
    this.#lines.clear();
    const focus = this.#focused();
    this.#body.replaceChildren(...this.#pens.map((pen) => this.#line(pen, columns)));
    if (focus !== null) this.#focus(focus);
  }

  /** Which button of which line has the focus: lines are made anew. */
  #focused(): { row: number; button: string } | null {
    const button = document.activeElement;
    const row = button?.closest('tbody tr');
    return row instanceof HTMLTableRowElement && this.#body.contains(row) ? { row: row.sectionRowIndex, button: button?.classList[0] ?? '' } : null;
  }

  #focus({ row, button }: { row: number; button: string }): void {
    // of a pen that was removed the next one, or the last
    const line = this.#body.rows[Math.min(row, this.#body.rows.length - 1)];
    line?.querySelector<HTMLElement>(`.${button}`)?.focus();
  }

  #line(pen: Pen, columns: readonly Column[]): HTMLElement {
    const { tag } = pen;
    const cells = new Map(columns.map((column) => [column, el('td', { class: classOf(column) }, column === 'unit' ? (tag.unit ?? '') : '')]));
    // an expression has slashes too
    const calculated = pen.expression !== null;
    const name = calculated ? tag.path : lastLevel(tag.path);
    const parent = calculated ? '' : parentPath(tag.path);
    const above = parentPath(parent);
    const swatch = el('button', { class: 'swatch', type: 'button', 'aria-label': text.penOf(tag.path), title: text.penOf(name), onclick: () => this.events.onStyle(pen, swatch) });
    const row = el(
      'tr',
      { class: calculated ? 'calculated' : undefined, onmouseenter: () => this.events.onHighlight(pen), onfocusin: () => this.events.onHighlight(pen), title: pen.expression ?? tag.path },
      el('td', { class: 'col-color' }, swatch),
      el('th', { class: 'col-tag', scope: 'row' }, el('span', { class: 'pen-above' }, above === '' ? '' : `${above}/`), el('span', { class: 'pen-parent' }, parent === '' ? '' : `${lastLevel(parent)}/`), el('span', { class: 'pen-name' }, name)),
      el('td', { class: 'col-description' }, calculated && tag.description === tag.path ? '' : (tag.description ?? '')),
      ...cells.values(),
      el('td', { class: 'col-remove' }, el('button', { class: 'remove', type: 'button', 'aria-label': text.removeOf(tag.path), title: text.remove, onclick: () => this.events.onRemove(pen) }, icon('close'))),
    );
    row.style.setProperty('--pen', penColor(currentTheme(), pen.color));
    row.style.setProperty('--pen-ink', penInk(currentTheme(), pen.color));
    row.dataset['path'] = tag.path;
    this.#lines.set(pen, { row, cells });
    return row;
  }
}

function classOf(column: Column): string {
  return column === 'newest' ? 'col-value' : ['unit', 'quality', 'time', 'min', 'max'].includes(column) ? `col-${column}` : `col-${column} col-number`;
}
