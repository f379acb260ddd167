/** The bar of the page: which dashboard it is, the connection's state, tools. */
import type { Described } from '../data/documents';
import type { ConnectionState } from '../data/stream';
import { appearanceButton } from '../ui/appearance';
import { el, icon, setText } from '../ui/dom';
import { lampOf, type Old } from '../ui/lamp';
import { button } from './dialogs';
import { showBoardKeys } from './keyslist';
import type { Shown } from './saving';
import { strings } from './strings';

export interface HeaderEvents {
  readonly onEdit: () => void;
  readonly onNew: () => void;
  readonly onSkip: () => void;
}

export class Header {
  readonly element: HTMLElement;
  readonly #pick = el('select', { class: 'pick', 'aria-label': strings.pick, onchange: () => (location.hash = this.#pick.value) });
  readonly #edit: HTMLElement;
  readonly #lampText = el('span', { class: 'state-text' });
  // what counts on is not read out
  readonly #counted = el('span', { class: 'state-text', 'aria-hidden': 'true' });
  readonly #lamp = el('div', { class: 'state', role: 'status' }, el('span', { class: 'lamp', 'aria-hidden': 'true' }), el('span', {}, this.#lampText, this.#counted));

  constructor(events: HeaderEvents) {
    const tool = (name: Parameters<typeof icon>[0], label: string, action: () => void): HTMLElement => el('button', { type: 'button', class: 'tool', 'aria-label': label, title: label, onclick: action }, icon(name));
    this.#edit = button(strings.edit, () => events.onEdit(), { class: 'plain edit' });
    // until there is something to edit
    this.#edit.hidden = true;
    this.element = el(
      'header',
      { class: 'bar' },
      el('button', { type: 'button', class: 'skip', onclick: () => events.onSkip() }, strings.skip),
      el('a', { class: 'home', href: './', title: strings.trends }, strings.trends),
      el('h1', {}, this.#pick),
      this.#edit,
      button(strings.newOne, () => events.onNew(), { class: 'plain new' }),
      el('span', { class: 'spring' }),
      this.#lamp,
      tool('expand', strings.fullscreen, () => void (document.fullscreenElement === null ? document.documentElement.requestFullscreen() : document.exitFullscreen())),
      appearanceButton(showBoardKeys),
    );
  }

  /** Name the one that is shown, here and in the title and address of the page, and offer the others. */
  name(list: readonly Described[], shown: Shown | null): void {
    const options = list.map(({ name, title }) => el('option', { value: name, selected: name === shown?.name }, name === shown?.name ? shown.document.title : title));
    if (shown !== null && !list.some(({ name }) => name === shown.name)) options.push(el('option', { value: '', selected: true }, shown.document.title));
    this.#pick.replaceChildren(...options);
    this.#pick.hidden = options.length === 0;
    this.#edit.hidden = shown === null;
    document.title = `${shown?.document.title ?? strings.title} · historian`;
    if (shown?.name != null && location.hash !== `#${shown.name}`) history.replaceState(null, '', `#${shown.name}`);
  }

  /** `old`: where what is shown was known once. */
  state(state: ConnectionState, old: Old | null): void {
    const { name, said, counted } = lampOf(state, old);
    this.#lamp.dataset['state'] = name;
    setText(this.#lampText, said);
    setText(this.#counted, counted);
  }
}
