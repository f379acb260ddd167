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

/** A button that opens a list of choices below it. */
export function menu(button: HTMLElement, choices: readonly (readonly [string, () => void])[]): void {
  document.querySelector('.choices')?.remove();
  const close = (): void => {
    list.remove();
    document.removeEventListener('pointerdown', outside, true);
    button.setAttribute('aria-expanded', 'false');
  };
  const outside = (event: Event): void => {
    if (!list.contains(event.target as Node)) close();
  };
  const items = choices.map(([label, action]) =>
    el('button', {
      type: 'button',
      role: 'menuitem',
      onclick: () => {
        close();
        action();
      },
    }, label),
  );
  const list = el(
    'div',
    {
      class: 'choices',
      role: 'menu',
      onkeydown: (event) => {
        const { key } = event as KeyboardEvent;
        const at = items.indexOf(document.activeElement as HTMLButtonElement);
        if (key === 'Escape') {
          close();
          button.focus();
        } else if (key === 'ArrowDown') items[(at + 1) % items.length]?.focus();
        else if (key === 'ArrowUp') items[(at + items.length - 1) % items.length]?.focus();
        else return;
        event.stopPropagation();
        event.preventDefault();
      },
    },
    ...items,
  );
  document.body.append(list);
  const box = button.getBoundingClientRect();
  list.style.left = `${Math.max(4, Math.min(box.left, innerWidth - list.offsetWidth - 4))}px`;
  list.style.top = `${box.bottom + 6}px`;
  button.setAttribute('aria-expanded', 'true');
  document.addEventListener('pointerdown', outside, true);
  items[0]?.focus();
}

/** The button of a bar. */
export function button(label: string, action: (button: HTMLButtonElement) => void, attributes: Record<string, string> = {}): HTMLButtonElement {
  const made: HTMLButtonElement = el('button', { type: 'button', ...attributes, onclick: () => action(made) });
  setText(made, label);
  return made;
}
