/** A menu below a button: groups of choices, one of each group checked, or things to do. Walked with the arrow keys, or by the first letters of its items. */
import './menu.css';
import { el } from './dom';
import { closeOpen, openBelow } from './popup';

export interface MenuItem {
  readonly label: string;
  /** the language of the label, where it is not that of the page */
  readonly lang?: string;
  /** of a group of choices; undefined: something to do */
  readonly checked?: boolean;
  readonly action: () => void;
}

export interface MenuGroup {
  readonly name?: string;
  readonly items: readonly MenuItem[];
}

/** Opens the menu, or closes it where it is open. */
export function openMenu(anchor: HTMLElement, name: string, groups: readonly MenuGroup[]): void {
  const before = document.querySelector('.popup-menu')?.getAttribute('aria-label');
  closeOpen('.popup-menu');
  if (before === name) return;
  const filled = groups.filter(({ items }) => items.length > 0);
  const buttons = filled.map(({ items }) =>
    items.map((item) =>
      el(
        'button',
        {
          type: 'button',
          // the menu has one tab stop
          tabindex: -1,
          lang: item.lang,
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
  const key = (event: KeyboardEvent): void => {
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    const letter = event.key.toLowerCase();
    const by: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at < 0 ? all.length - 1 : at - 1 + all.length, Home: 0, End: all.length - 1 };
    const to = by[event.key];
    if (event.key === 'Tab') {
      // a menu is left with it, from its button on
      close();
      anchor.focus();
      return;
    }
    if (to !== undefined) all[to % all.length]?.focus();
    else if (/^\p{L}$/u.test(letter)) [...all.slice(at + 1), ...all].find((button) => button.textContent?.toLowerCase().startsWith(letter))?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const menu = el(
    'div',
    { class: 'popup-menu', role: 'menu', 'aria-label': name, onkeydown: (event) => key(event as KeyboardEvent) },
    ...filled.map((group, i) =>
      el('div', { role: 'group', 'aria-label': group.name }, ...(group.name === undefined ? [] : [el('span', { class: 'menu-heading', 'aria-hidden': 'true' }, group.name)]), ...buttons[i]!),
    ),
  );
  const close = openBelow(anchor, menu);
  (all.find((button) => button.getAttribute('aria-checked') === 'true') ?? all[0])?.focus();
}
