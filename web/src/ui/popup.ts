/** What opens at a button: placed below it, or above where there is no room, and gone with a click beside it or with Escape. The focus stays in it, and goes back to the button. */

const closers = new WeakMap<Element, () => void>();

/** Whether one of these was open; it is closed then. */
export function closeOpen(selector: string): boolean {
  const before = document.querySelector(selector);
  if (before === null) return false;
  closers.get(before)?.();
  return true;
}

/** Shows a popup at its button. Returns what closes it. */
export function openBelow(anchor: HTMLElement, popup: HTMLElement): () => void {
  const close = (): void => {
    const focused = popup.contains(document.activeElement);
    popup.remove();
    document.removeEventListener('pointerdown', outside, true);
    anchor.setAttribute('aria-expanded', 'false');
    if (focused) anchor.focus();
  };
  const outside = (event: Event): void => {
    const target = event.target as Node;
    if (!popup.contains(target) && !anchor.contains(target)) close();
  };
  popup.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      close();
    } else if (event.key === 'Tab') stayWithin(popup, event);
  });
  // keys pressed in it are none of the page's
  popup.classList.add('popup');
  // where its button is, for those who go from landmark to landmark
  (anchor.closest('header, main, .edit-bar') ?? document.body).append(popup);
  const box = anchor.getBoundingClientRect();
  const below = box.bottom + 6;
  // on a wall the bar is larger, and what stands in it
  const zoom = popup.currentCSSZoom ?? 1;
  const [width, height] = [popup.offsetWidth * zoom, popup.offsetHeight * zoom];
  const fits = below + height <= innerHeight - 4;
  popup.style.left = `${Math.max(4, Math.min(box.left, innerWidth - width - 4)) / zoom}px`;
  popup.style.top = `${(fits ? below : Math.max(4, Math.min(below, box.top - height - 6))) / zoom}px`;
  document.addEventListener('pointerdown', outside, true);
  anchor.setAttribute('aria-expanded', 'true');
  closers.set(popup, close);
  return close;
}

/** From the last place in it to the first, and back. */
function stayWithin(popup: HTMLElement, event: KeyboardEvent): void {
  const places = [...popup.querySelectorAll<HTMLElement>('button, input, a[href]')].filter((place) => place.tabIndex >= 0 && place.offsetParent !== null && !place.matches(':disabled'));
  const [first, last] = [places[0], places.at(-1)];
  if (document.activeElement !== (event.shiftKey ? first : last)) return;
  event.preventDefault();
  (event.shiftKey ? last : first)?.focus();
}
