/** Asks how a pen is drawn, at its swatch: colour, a scale of its own, limits. */
import './penstyle.css';
import { MAX_PENS, type Pen, type PenStyle } from '../pens/pen';
import { el } from '../ui/dom';
import { openBelow } from '../ui/popup';
import { text } from '../ui/strings';
import { currentTheme, penColor, penDash } from '../ui/theme';

/** Of colours, as the style sheet has them. */
const COLUMNS = 8;

export function askForStyle(pen: Pen, anchor: HTMLElement, then: (style: PenStyle) => void): void {
  const colours = Array.from({ length: MAX_PENS }, (_, i) => {
    const button = el('button', {
      type: 'button',
      class: `swatch${penDash(i).length > 0 ? ' dashed' : ''}`,
      role: 'radio',
      // one tab stop for all of them, walked with the arrow keys
      tabindex: i === pen.color ? 0 : -1,
      'aria-label': text.colour(i + 1),
      'aria-checked': String(i === pen.color),
      onclick: () => {
        close();
        then({ ...pen.style, color: i });
      },
    });
    button.style.setProperty('--pen', penColor(currentTheme(), i));
    return button;
  });
  const own = el('input', { type: 'checkbox', checked: pen.style.own === true, onchange: () => apply() });
  // what the tag has is seen, and is overwritten by what the pen has
  const limit = (label: string, value: number | undefined, ofTag: number | null | undefined): HTMLInputElement =>
    el('input', { type: 'number', step: 'any', 'aria-label': label, value: value ?? '', placeholder: ofTag ?? '', onchange: () => apply() });
  const [low, high] = [limit(text.limitLow, pen.style.low, pen.tag.low_limit), limit(text.limitHigh, pen.style.high, pen.tag.high_limit)];
  const apply = (): void => {
    const { color } = pen.style;
    then({
      color,
      ...(own.checked ? { own: true } : {}),
      ...(low.value === '' ? {} : { low: low.valueAsNumber }),
      ...(high.value === '' ? {} : { high: high.valueAsNumber }),
    });
  };
  const unit = pen.tag.unit ?? '';
  const scale = pen.lane
    ? []
    : [
        el('label', { class: 'own' }, own, text.ownScale),
        el('label', {}, text.limitHigh, high, unit),
        el('label', {}, text.limitLow, low, unit),
      ];
  const dialog = el(
    'div',
    {
      class: 'palette',
      role: 'dialog',
      'aria-label': text.penOf(pen.path),
      onkeydown: (event) => {
        if ((event as KeyboardEvent).key !== 'Enter' || !(event.target instanceof HTMLInputElement)) return;
        event.stopPropagation();
        apply();
        close();
      },
    },
    el('div', { class: 'colours', role: 'radiogroup', 'aria-label': text.columnColour, onkeydown: (event) => walk(event as KeyboardEvent) }, ...colours),
    ...scale,
  );
  const walk = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const at = colours.indexOf(document.activeElement as HTMLButtonElement);
    colours[(at + by + MAX_PENS) % MAX_PENS]?.focus();
  };
  const close = openBelow(anchor, dialog);
  colours[pen.color]?.focus();
}
