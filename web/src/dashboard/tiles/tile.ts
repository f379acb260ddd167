/** What a tile's view gets, and what it has to give. */
import type { Clock } from '../../data/clock';
import type { Sample } from '../../data/store';
import { spanText } from '../../time/spans';
import { el, setText } from '../../ui/dom';
import { formatSample, decimalsOf, qualityName } from '../../ui/format';
import { spanUs, type Dashboard, type Tile } from '../document';
import type { Feed, Request, Series } from '../feed';
import type { Kpis } from '../kpis';
import { strings } from '../strings';

export interface Context {
  readonly feed: Feed;
  readonly kpis: Kpis;
  readonly clock: Clock;
  readonly dashboard: () => Dashboard;
  /** draw again soon */
  readonly redraw: () => void;
}

export interface View {
  readonly element: HTMLElement;
  /** the title, where the document has none */
  readonly title: () => string;
  /** what live data it draws */
  readonly wants: () => readonly Request[];
  /** show what there is now */
  update(now: number): void;
}

/** Of tiles that show the newest value alone. */
export const NEWEST = 60e6;
const FEW_POINTS = 10;

export function newest(path: string): Request[] {
  return path === '' ? [] : [{ pattern: path, span: NEWEST, points: FEW_POINTS }];
}

/** Why a tile of a tag has nothing to show, or null. */
export function missing(context: Context, path: string, series: Series | null, span: number): string | null {
  if (path === '') return strings.noTag;
  if (context.feed.known && !context.feed.tags.has(path)) return strings.unknownTag(path);
  if (series !== null && series.store.length > 0) return null;
  return context.feed.live(span) ? strings.noData : strings.loading;
}

/** The newest sample of a tag in words, and what is to be said of it. */
export class Reading {
  readonly element = el('div', { class: 'reading' });
  readonly #value = el('span', { class: 'reading-value' });
  readonly #unit = el('span', { class: 'reading-unit' });
  readonly #mark = el('span', { class: 'reading-mark', hidden: true });
  readonly #note = el('div', { class: 'reading-note' });
  readonly #line = el('div', { class: 'reading-line' }, this.#value, this.#unit, this.#mark);

  constructor() {
    this.element.append(this.#line, this.#note);
  }

  show(series: Series, options: { decimals?: number | undefined; level: string; mark: string; staleAfter?: string | undefined; now: number }): Sample | null {
    const { tag, store } = series;
    const sample = store.last();
    const quality = sample === null ? 'bad' : qualityName(sample.quality);
    // what was last known is more than nothing, as long as it is said to be bad
    setText(this.#value, formatSample(tag, sample, options.decimals ?? decimalsOf(store)));
    setText(this.#unit, sample === null ? '' : (tag.unit ?? ''));
    fit(this.#line, this.#value.textContent ?? '', `${this.#unit.textContent ?? ''}${options.mark}`);
    const age = sample === null ? 0 : options.now - sample.ts;
    const stale = options.staleAfter !== undefined && age > spanUs(options.staleAfter, '1d');
    const notes = [quality === 'bad' ? strings.badQuality : quality === 'uncertain' ? strings.uncertain : '', stale ? strings.stale(spanText(age)) : ''];
    setText(this.#note, notes.filter((note) => note !== '').join(' · '));
    this.#mark.hidden = options.mark === '';
    setText(this.#mark, options.mark);
    this.element.dataset['level'] = quality === 'bad' ? 'none' : options.level;
    this.element.dataset['quality'] = quality;
    this.element.dataset['stale'] = String(stale);
    return sample;
  }
}

/** Have a line be as large as its width allows for these letters; those of the unit are half as wide. */
export function fit(line: HTMLElement, value: string, unit: string): void {
  const letters = String(value.length + (unit === '' ? 0 : 0.5 + unit.length / 2));
  if (line.style.getPropertyValue('--letters') !== letters) line.style.setProperty('--letters', letters);
}

/** A place for words instead of a value: unknown tag, no data. */
export class Notice {
  readonly element = el('div', { class: 'notice', hidden: true });

  /** Shows a text, and hides what stands beside it; null: the other way round. */
  show(text: string | null, ...others: HTMLElement[]): void {
    this.element.hidden = text === null;
    setText(this.element, text ?? '');
    for (const other of others) other.hidden = text !== null;
  }
}

/** What a tile calls a tag: the last two levels of its path. */
export function shortName(path: string): string {
  return path.split('/').slice(-2).join(' · ').replaceAll('_', ' ');
}

export type Maker<T extends Tile> = (tile: T, context: Context) => View;
