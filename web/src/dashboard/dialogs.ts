/** Dialogs: a question with some answers, and a form. */
import { el, setText } from '../ui/dom';
import { strings } from './strings';

/** Ask; resolves with the answer, or null where the dialog was left. */
export function ask<T extends string>(text: string, answers: Readonly<Record<T, string>>): Promise<T | null> {
  return new Promise((resolve) => {
    const close = (answer: T | null): void => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const buttons = (Object.entries(answers) as [T, string][]).map(([answer, label], i) => el('button', { type: 'button', class: i === 0 ? 'primary' : 'plain', onclick: () => close(answer) }, label));
    const dialog = el(
      'dialog',
      {
        class: 'ask',
        'aria-label': text,
        oncancel: (event) => {
          event.preventDefault();
          close(null);
        },
      },
      el('p', {}, text),
      el('div', { class: 'dialog-buttons' }, el('button', { type: 'button', class: 'plain', onclick: () => close(null) }, strings.cancel), ...buttons),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A form; `apply` returns what is wrong, or null and the form closes. */
export function form(title: string, body: HTMLElement, apply: () => Promise<readonly string[] | null>, more: HTMLElement[] = []): HTMLDialogElement {
  const faults = el('ul', { class: 'faults', role: 'alert', hidden: true });
  const close = (): void => {
    dialog.close();
    dialog.remove();
  };
  const submit = async (): Promise<void> => {
    const wrong = await apply();
    if (wrong === null) {
      close();
      return;
    }
    faults.hidden = false;
    faults.replaceChildren(...wrong.map((text) => el('li', {}, text)));
  };
  const dialog = el(
    'dialog',
    { class: 'form', 'aria-label': title, onclose: () => dialog.remove() },
    el(
      'form',
      {
        novalidate: true,
        onsubmit: (event) => {
          event.preventDefault();
          void submit();
        },
      },
      el('h2', {}, title),
      body,
      faults,
      el('div', { class: 'dialog-buttons' }, ...more, el('span', { class: 'spring' }), el('button', { type: 'button', class: 'plain', onclick: close }, strings.cancel), el('button', { type: 'submit', class: 'primary' }, strings.apply)),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A dialog that is only looked at and left. */
export function panel(title: string, body: HTMLElement, more: HTMLElement[] = []): void {
  const close = el('button', { type: 'button', class: 'plain', onclick: () => dialog.close() }, strings.close);
  const dialog = el('dialog', { class: 'form', 'aria-label': title, onclose: () => dialog.remove() }, el('h2', {}, title), body, el('div', { class: 'dialog-buttons' }, ...more, el('span', { class: 'spring' }), close));
  document.body.append(dialog);
  dialog.showModal();
}

/** The button of a bar. */
export function button(label: string, action: (button: HTMLButtonElement) => void, attributes: Record<string, string> = {}): HTMLButtonElement {
  const made: HTMLButtonElement = el('button', { type: 'button', ...attributes, onclick: () => action(made) });
  setText(made, label);
  return made;
}
