/** What opens below a button of the bar: placed there, and gone with a click beside it or with Escape. */

/** Whether one of these was open; it is closed then. */
export function closeOpen(selector: string): boolean {
  const before = document.querySelector<HTMLElement>(selector);
  before?.remove();
  return before !== null;
}

/** Shows a popup below its button. Returns what closes it. */
export function openBelow(anchor: HTMLElement, popup: HTMLElement): () => void {
  const close = (): void => {
    popup.remove();
    document.removeEventListener('pointerdown', outside, true);
  };
  const outside = (event: Event): void => {
    const target = event.target as Node;
    if (!popup.contains(target) && !anchor.contains(target)) close();
  };
  popup.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    close();
    anchor.focus();
  });
  document.body.append(popup);
  const box = anchor.getBoundingClientRect();
  popup.style.left = `${Math.max(4, Math.min(box.left, innerWidth - popup.offsetWidth - 4))}px`;
  popup.style.top = `${box.bottom + 6}px`;
  document.addEventListener('pointerdown', outside, true);
  return close;
}
