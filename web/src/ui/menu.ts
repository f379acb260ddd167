/** A menu below a button: groups of choices, one of each group checked, or things to do. */
import './menu.css';
import { el } from './dom';
import { openBelow } from './popup';

export interface MenuItem {
  readonly label: string;
  /** of a group of choices; undefined: something to do */
  readonly checked?: boolean;
  readonly action: () => void;
}

/** Opens the menu, or closes it where it is open. */
export function openMenu(anchor: HTMLElement, name: string, groups: readonly (readonly MenuItem[])[]): void {
  const before = document.querySelector<HTMLElement>('.popup-menu');
  if (before !== null) {
    before.remove();
    if (before.getAttribute('aria-label') === name) return;
  }
  const buttons = groups.map((group) =>
    group.map((item) =>
      el(
        'button',
        {
          type: 'button',
          role: item.checked === undefined ? 'menuitem' : 'menuitemradio',
          'aria-checked': item.checked === undefined ? undefined : String(item.checked),
          onclick: () => {
            close();
            anchor.focus();
            item.action();
          },
        },
        item.label,
      ),
    ),
  );
  const all = buttons.flat();
  const menu = el(
    'div',
    {
      class: 'popup popup-menu',
      role: 'menu',
      'aria-label': name,
      onkeydown: (event) => {
        const key = (event as KeyboardEvent).key;
        const at = all.indexOf(document.activeElement as HTMLButtonElement);
        if (key === 'ArrowDown') all[(at + 1) % all.length]?.focus();
        else if (key === 'ArrowUp') all[(at - 1 + all.length) % all.length]?.focus();
        else if (key !== 'Escape') return;
        event.preventDefault();
        event.stopPropagation();
      },
    },
    ...buttons.map((group) => el('div', { role: 'group' }, ...group)),
  );
  const close = openBelow(anchor, menu);
  (all.find((button) => button.getAttribute('aria-checked') === 'true') ?? all[0])?.focus();
}
