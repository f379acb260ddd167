/** Asks for the server's token, which is kept until the browser's tab is closed. */
import './token.css';
import { setToken } from '../data/api';
import { el } from './dom';
import { text } from './strings';

let open = false;

/** Ask, once at a time; `then` is called once there is a token to try. */
export function askForToken(reason: string, then: () => void): void {
  if (open) return;
  open = true;
  const input = el('input', { type: 'password', autocomplete: 'off', 'aria-label': text.token, placeholder: text.token });
  const accept = (): void => {
    const value = input.value.trim();
    if (value === '') return;
    setToken(value);
    open = false;
    dialog.close();
    dialog.remove();
    then();
  };
  input.addEventListener('keydown', (event) => event.key === 'Enter' && accept());
  const dialog = el(
    'dialog',
    { class: 'token', 'aria-label': text.token, oncancel: (event) => event.preventDefault() },
    el('h2', {}, text.tokenWanted),
    el('p', {}, reason),
    el('div', { class: 'token-line' }, input, el('button', { type: 'button', class: 'primary', onclick: accept }, text.useToken)),
  );
  document.body.append(dialog);
  dialog.showModal();
}
