/** Asks how a pen is drawn, beside its swatch: colour, a scale of its own, limits. */
import './penstyle.css';
import { MAX_PENS, type Pen, type PenStyle } from '../pens/pen';
import { el } from '../ui/dom';
import { text } from '../ui/strings';
import { currentTheme, penColor, penDash } from '../ui/theme';

export function askForStyle(pen: Pen, anchor: HTMLElement, then: (style: PenStyle) => void): void {
  document.querySelector('.palette')?.remove();
  const box = anchor.getBoundingClientRect();
  const close = (): void => {
    dialog.remove();
    document.removeEventListener('pointerdown', outside, true);
  };
  const outside = (event: Event): void => {
    if (!dialog.contains(event.target as Node)) close();
  };
  const colours = Array.from({ length: MAX_PENS }, (_, i) => {
    const button = el('button', {
      type: 'button',
      class: `swatch${penDash(i).length > 0 ? ' dashed' : ''}`,
      'aria-label': text.colour(i + 1),
      'aria-pressed': String(i === pen.color),
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
      class: 'palette popup',
      role: 'dialog',
      'aria-label': text.penOf(pen.path),
      onkeydown: (event) => {
        const key = (event as KeyboardEvent).key;
        if (key !== 'Escape' && !(key === 'Enter' && event.target instanceof HTMLInputElement)) return;
        event.stopPropagation();
        if (key === 'Enter') apply();
        close();
        anchor.focus();
      },
    },
    el('div', { class: 'colours' }, ...colours),
    ...scale,
  );
  document.body.append(dialog);
  dialog.style.left = `${Math.max(4, box.left)}px`;
  dialog.style.top = `${Math.max(4, box.top - dialog.offsetHeight - 6)}px`;
  document.addEventListener('pointerdown', outside, true);
  colours[pen.color]?.focus();
}
