/** The read-out: a line for each pen with its value at the cursor, or its newest, and its extremes in the window. */
import './readout.css';
import { el, icon, setText } from '../ui/dom';
import { decimalsOf, formatNumber, formatSample, qualityName } from '../ui/format';
import type { Pen } from '../pens/pen';
import { day, timeOfDay, type Window } from '../time/spans';
import { currentTheme, penColor } from '../ui/theme';
import { extent } from '../chart/trace';
import { lastLevel, parentPath } from '../tags/tree';

export interface ReadoutEvents {
  readonly onRemove: (pen: Pen) => void;
  readonly onColor: (pen: Pen, color: number) => void;
  readonly onHighlight: (pen: Pen | null) => void;
}

interface Line {
  readonly row: HTMLTableRowElement;
  readonly value: HTMLElement;
  readonly quality: HTMLElement;
  readonly time: HTMLElement;
  readonly min: HTMLElement;
  readonly max: HTMLElement;
}

export class Readout {
  readonly element: HTMLElement;
  #body = el('tbody');
  #when = el('th', { scope: 'col', class: 'col-value' });
  #lines = new Map<Pen, Line>();
  #empty = el('p', { class: 'readout-empty' }, 'No pens. Pick tags from the tree to draw them.');

  constructor(private readonly events: ReadoutEvents) {
    const head = (text: string, name: string): HTMLElement => el('th', { scope: 'col', class: name }, text);
    this.element = el(
      'section',
      { class: 'readout', 'aria-label': 'Pens', onmouseleave: () => events.onHighlight(null) },
      el(
        'table',
        {},
        el(
          'thead',
          {},
          el(
            'tr',
            {},
            head('', 'col-color'),
            head('Tag', 'col-tag'),
            head('Description', 'col-description'),
            this.#when,
            head('Unit', 'col-unit'),
            head('Quality', 'col-quality'),
            head('Time', 'col-time'),
            head('Min', 'col-min'),
            head('Max', 'col-max'),
            head('', 'col-remove'),
          ),
        ),
        this.#body,
      ),
      this.#empty,
    );
  }

  setPens(pens: readonly Pen[]): void {
    this.#lines.clear();
    this.#body.replaceChildren(...pens.map((pen) => this.#line(pen)));
    this.#empty.hidden = pens.length > 0;
  }

  /** `cursor`: null shows the newest values. */
  update(cursor: number | null, window: Window, live: boolean): void {
    setText(this.#when, cursor === null ? (live ? 'Newest' : 'At the end') : 'At cursor');
    for (const [pen, line] of this.#lines) {
      const store = pen.shown;
      const sample = cursor === null ? (live ? store.last() : store.at(store.before(window.to))) : store.at(store.before(cursor));
      const decimals = decimalsOf(store);
      setText(line.value, formatSample(pen.tag, sample, decimals));
      const quality = sample === null ? null : qualityName(sample.quality);
      setText(line.quality, quality === null || sample === null ? '' : quality === 'good' ? 'good' : `${quality} (${sample.quality})`);
      line.row.dataset['quality'] = quality ?? 'none';
      setText(line.time, sample === null ? '' : timeOfDay(sample.ts, 3));
      line.time.title = sample === null ? '' : `${day(sample.ts)} ${timeOfDay(sample.ts, 6)} (${new Date(sample.ts / 1000).toISOString()})`;
      const seen = pen.lane ? null : extent(store, window, pen.tag.step);
      setText(line.min, seen === null ? '' : formatNumber(seen.min, decimals));
      setText(line.max, seen === null ? '' : formatNumber(seen.max, decimals));
    }
  }

  #line(pen: Pen): HTMLElement {
    const { tag } = pen;
    const color = penColor(currentTheme(), pen.color);
    const value = el('td', { class: 'col-value' });
    const quality = el('td', { class: 'col-quality' });
    const time = el('td', { class: 'col-time' });
    const min = el('td', { class: 'col-min' });
    const max = el('td', { class: 'col-max' });
    // an expression has slashes too
    const calculated = pen.expression !== null;
    const name = calculated ? tag.path : lastLevel(tag.path);
    const parent = calculated ? '' : parentPath(tag.path);
    const above = parentPath(parent);
    const row = el(
      'tr',
      { class: calculated ? 'calculated' : undefined, onmouseenter: () => this.events.onHighlight(pen), title: pen.expression ?? tag.path },
      el('td', { class: 'col-color' }, el('button', { class: 'swatch', type: 'button', 'aria-label': `Colour of ${tag.path}`, title: 'Colour', onclick: (event) => this.#palette(pen, event.currentTarget as HTMLElement) })),
      el('td', { class: 'col-tag' }, el('span', { class: 'pen-above' }, above === '' ? '' : `${above}/`), el('span', { class: 'pen-parent' }, parent === '' ? '' : `${lastLevel(parent)}/`), el('span', { class: 'pen-name' }, name)),
      el('td', { class: 'col-description' }, calculated && tag.description === tag.path ? '' : (tag.description ?? '')),
      value,
      el('td', { class: 'col-unit' }, tag.unit ?? ''),
      quality,
      time,
      min,
      max,
      el('td', { class: 'col-remove' }, el('button', { class: 'remove', type: 'button', 'aria-label': `Remove ${tag.path}`, title: 'Remove', onclick: () => this.events.onRemove(pen) }, icon('close'))),
    );
    row.style.setProperty('--pen', color);
    row.dataset['path'] = tag.path;
    this.#lines.set(pen, { row, value, quality, time, min, max });
    return row;
  }

  /** Sixteen colours to choose from, beside the swatch. */
  #palette(pen: Pen, anchor: HTMLElement): void {
    document.querySelector('.palette')?.remove();
    const box = anchor.getBoundingClientRect();
    const close = (): void => {
      palette.remove();
      document.removeEventListener('pointerdown', outside, true);
    };
    const outside = (event: Event): void => {
      if (!palette.contains(event.target as Node)) close();
    };
    const palette = el('div', {
      class: 'palette',
      role: 'dialog',
      'aria-label': `Colour of ${pen.path}`,
      onkeydown: (event) => {
        if ((event as KeyboardEvent).key !== 'Escape') return;
        event.stopPropagation();
        close();
        anchor.focus();
      },
    });
    for (let i = 0; i < 16; i++) {
      const button = el('button', {
        type: 'button',
        class: 'swatch',
        'aria-label': `Colour ${i + 1}`,
        'aria-pressed': String(i === pen.color),
        onclick: () => {
          close();
          this.events.onColor(pen, i);
        },
      });
      button.style.setProperty('--pen', penColor(currentTheme(), i));
      palette.append(button);
    }
    document.body.append(palette);
    palette.style.left = `${Math.max(4, box.left)}px`;
    palette.style.top = `${Math.max(4, box.top - palette.offsetHeight - 6)}px`;
    document.addEventListener('pointerdown', outside, true);
    (palette.firstElementChild as HTMLElement).focus();
  }
}
