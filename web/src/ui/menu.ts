/** A menu below a button: groups of choices, one of each group checked, or things to do. */
import './menu.css';
import { el } from './dom';

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
  const close = (): void => {
    menu.remove();
    document.removeEventListener('pointerdown', outside, true);
  };
  const outside = (event: Event): void => {
    const target = event.target as Node;
    if (!menu.contains(target) && !anchor.contains(target)) close();
  };
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
        else if (key === 'Escape') {
          close();
          anchor.focus();
        } else return;
        event.preventDefault();
        event.stopPropagation();
      },
    },
    ...buttons.map((group) => el('div', { role: 'group' }, ...group)),
  );
  document.body.append(menu);
  const box = anchor.getBoundingClientRect();
  menu.style.left = `${Math.max(4, Math.min(box.left, innerWidth - menu.offsetWidth - 4))}px`;
  menu.style.top = `${box.bottom + 6}px`;
  document.addEventListener('pointerdown', outside, true);
  (all.find((button) => button.getAttribute('aria-checked') === 'true') ?? all[0])?.focus();
}
