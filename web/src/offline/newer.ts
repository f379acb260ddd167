/** Tells that the server has a newer version of the page, and offers it. */
import './newer.css';
import { el } from '../ui/dom';
import { text } from '../ui/strings';
import { keepPage } from './register';

/** Has the page kept; once a newer one is, a line says so. It is taken at the next load, if not by this button. */
export function offerNewer(): void {
  void keepPage(() => {
    if (document.querySelector('.newer') !== null) return;
    const reload = el('button', { type: 'button', class: 'primary', onclick: () => location.reload() }, text.offline.reload);
    document.body.append(el('div', { class: 'newer', role: 'status' }, text.offline.newVersion, reload));
  });
}
