/** Asks for a stretch of time, in the browser's time zone, below a button of the bar. */
import './daterange.css';
import { el, setText } from './dom';
import { closeOpen, openBelow } from './popup';
import { isoDay, isoTime, type Window } from '../time/spans';
import { text } from './strings';

/** A time in µs as the value of an input of type datetime-local, whole seconds. */
export function toLocal(us: number): string {
  return `${isoDay(us)}T${isoTime(us)}`;
}

/** The window between two values of such inputs, or what is wrong with them. */
export function fromLocal(from: string, to: string): Window | string {
  const [start, end] = [Date.parse(from) * 1000, Date.parse(to) * 1000];
  if (Number.isNaN(start) || Number.isNaN(end)) return text.giveBoth;
  if (start >= end) return text.endBeforeStart;
  return { from: start, to: end };
}

/** Opens the question, or closes it where it is open; `shown` is what it starts from. */
export function askForDates(anchor: HTMLElement, shown: Window, then: (window: Window) => void): void {
  if (closeOpen('.date-range')) return;
  const input = (label: string, us: number): HTMLInputElement => el('input', { type: 'datetime-local', step: 1, 'aria-label': label, value: toLocal(us) });
  const [from, to] = [input(text.from, shown.from), input(text.to, shown.to)];
  const fault = el('p', { class: 'fault', role: 'alert', hidden: true });
  const form = el(
    'form',
    {
      // ours, in the page's language, rather than the browser's
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        const window = fromLocal(from.value, to.value);
        fault.hidden = typeof window !== 'string';
        if (typeof window === 'string') {
          setText(fault, window);
          return;
        }
        close();
        then(window);
      },
    },
    el('label', {}, text.from, from),
    el('label', {}, text.to, to),
    fault,
    el('button', { type: 'submit', class: 'primary' }, text.show),
  );
  const close = openBelow(anchor, el('div', { class: 'date-range', role: 'dialog', 'aria-label': text.dates }, form));
  from.focus();
}
