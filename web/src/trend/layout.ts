/** Where the parts of the page stand, and the drawer of tags: at the side of a large screen, over the chart of a small one. */
import { el } from '../ui/dom';
import { text } from '../ui/strings';

export interface Parts {
  readonly toolbar: HTMLElement;
  readonly tree: HTMLElement;
  readonly problems: HTMLElement;
  readonly chart: HTMLElement;
  readonly busy: HTMLElement;
  readonly overview: HTMLElement;
  readonly readout: HTMLElement;
}

export function placeParts(root: HTMLElement, { toolbar, tree, problems, chart, busy, overview, readout }: Parts): void {
  root.append(
    toolbar,
    el(
      'div',
      { class: 'body' },
      el('aside', { class: 'side', 'aria-label': text.tags }, tree),
      el('main', { class: 'main' }, problems, el('div', { class: 'chart-box' }, chart, busy), overview, readout),
    ),
  );
  document.addEventListener(
    'pointerdown',
    (event) => {
      // beside the drawer of a small screen: closes it, and does nothing else
      if (!document.body.classList.contains('menu-open') || (event.target as Element).closest('.side, .menu')) return;
      closeDrawer();
      event.stopPropagation();
    },
    true,
  );
}

export function toggleDrawer(): void {
  document.body.classList.toggle(matchMedia('(max-width: 760px)').matches ? 'menu-open' : 'menu-closed');
}

/** Of a small screen. */
export function closeDrawer(): void {
  document.body.classList.remove('menu-open');
}
