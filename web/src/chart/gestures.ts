/** What hands do on the plot: drag pans, shift-drag selects a stretch to zoom into, the wheel zooms, two fingers pinch, a double click goes back. */
import { shift, type Window, zoom } from '../time/spans';

export interface GestureTarget {
  readonly window: () => Window;
  /** of the plot, CSS pixels */
  readonly width: () => number;
  readonly onWindow: (window: Window) => void;
  readonly onBack: () => void;
}

export function listenForGestures(over: HTMLElement, target: GestureTarget): void {
  const box = document.createElement('div');
  box.className = 'zoom-box';
  box.hidden = true;
  over.append(box);
  const pointers = new Map<number, number>();
  let origin: { x: number; window: Window; box: boolean } | null = null;
  let pinch: { distance: number; centre: number; window: Window } | null = null;
  const leftOf = (event: MouseEvent): number => event.clientX - over.getBoundingClientRect().left;
  const tsAt = (left: number, window: Window): number => window.from + (left / target.width()) * (window.to - window.from);

  over.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    over.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, leftOf(event));
    if (pointers.size === 1) {
      origin = { x: leftOf(event), window: target.window(), box: event.shiftKey };
    } else if (pointers.size === 2) {
      const [a = 0, b = 0] = pointers.values();
      pinch = { distance: Math.max(10, Math.abs(a - b)), centre: (a + b) / 2, window: target.window() };
      origin = null;
    }
  });
  over.addEventListener('pointermove', (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, leftOf(event));
    if (pinch !== null && pointers.size === 2) {
      const [a = 0, b = 0] = pointers.values();
      const zoomed = zoom(pinch.window, tsAt(pinch.centre, pinch.window), pinch.distance / Math.max(10, Math.abs(a - b)));
      target.onWindow(shift(zoomed, (pinch.centre - (a + b) / 2) / target.width()));
    } else if (origin !== null) {
      const by = leftOf(event) - origin.x;
      if (origin.box) {
        const left = Math.max(0, Math.min(origin.x, leftOf(event)));
        const width = Math.min(target.width(), Math.max(origin.x, leftOf(event))) - left;
        box.style.left = `${left}px`;
        box.style.width = `${width}px`;
        box.hidden = false;
      } else if (Math.abs(by) > 3 || over.classList.contains('panning')) {
        over.classList.add('panning');
        target.onWindow(shift(origin.window, -by / target.width()));
      }
    }
  });
  const release = (event: PointerEvent): void => {
    if (!pointers.delete(event.pointerId)) return;
    over.classList.remove('panning');
    pinch = null;
    if (origin?.box === true) {
      box.hidden = true;
      const [a, b] = [origin.x, leftOf(event)].sort((one, other) => one - other) as [number, number];
      const window = origin.window;
      if (event.type === 'pointerup' && b - a > 4) target.onWindow({ from: tsAt(Math.max(0, a), window), to: tsAt(Math.min(target.width(), b), window) });
    }
    origin = null;
  };
  over.addEventListener('dblclick', () => target.onBack());
  over.addEventListener('pointerup', release);
  over.addEventListener('pointercancel', release);
  over.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      // lines and pages in pixels
      const unit = event.deltaMode === 0 ? 1 : event.deltaMode === 1 ? 20 : 400;
      const delta = (sideways && event.deltaX !== 0 ? event.deltaX : event.deltaY) * unit;
      const window = target.window();
      if (sideways) target.onWindow(shift(window, delta / target.width()));
      else target.onWindow(zoom(window, tsAt(leftOf(event), window), Math.exp(Math.max(-300, Math.min(300, delta)) * 0.0022)));
    },
    { passive: false },
  );
}
