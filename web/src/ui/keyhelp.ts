/** The list of a page's keys. */
import './keyhelp.css';
import { el } from './dom';
import { text } from './strings';

/** Keys, each as the caps that are pressed, and what they do. */
export type KeyRow = readonly [keys: readonly string[], does: string];

/** Show the list; `more` stands below it. */
export function showKeys(rows: readonly KeyRow[], more: readonly HTMLElement[] = []): void {
  if (document.querySelector('.key-help') !== null) return;
  const dialog = el(
    'dialog',
    { class: 'key-help', 'aria-labelledby': 'key-help-title', onclose: () => dialog.remove() },
    el('h2', { id: 'key-help-title' }, text.keys),
    el('dl', {}, ...rows.flatMap(([keys, does]) => [el('dt', {}, ...keys.flatMap((key, i) => [i === 0 ? '' : ' ', el('kbd', {}, key)])), el('dd', {}, does)])),
    ...more,
    el('div', { class: 'dialog-buttons' }, el('button', { type: 'button', class: 'primary', onclick: () => dialog.close() }, text.close)),
  );
  document.body.append(dialog);
  dialog.showModal();
}
