/**
 * What hands do on the plot: a drag pans, shift and a drag select a stretch to zoom into, the wheel zooms, two fingers zoom about their middle and pan with it, a
 * double click or double tap goes back.
 */
import { shift, type Window, zoom } from '../time/spans';
import { DoubleTap, Fingers } from './touch';

export interface GestureTarget {
  readonly window: () => Window;
  /** of the plot, CSS pixels */
  readonly width: () => number;
  readonly onWindow: (window: Window) => void;
  readonly onBack: () => void;
}

/** So far a pointer goes before it is a drag, CSS pixels: fingers are not as still as a mouse. */
const SLOP = { mouse: 3, touch: 8 };

export function listenForGestures(over: HTMLElement, target: GestureTarget): void {
  const box = document.createElement('div');
  box.className = 'zoom-box';
  box.hidden = true;
  over.append(box);
  const fingers = new Fingers();
  const doubleTap = new DoubleTap(() => target.onBack());
  let origin: { x: number; window: Window; box: boolean; slop: number } | null = null;
  let pinch: { distance: number; centre: number; window: Window } | null = null;
  let byTouch = false;
  const leftOf = (event: MouseEvent): number => event.clientX - over.getBoundingClientRect().left;
  const tsAt = (left: number, window: Window): number => window.from + (left / target.width()) * (window.to - window.from);

  over.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    over.setPointerCapture(event.pointerId);
    fingers.set(event, leftOf(event));
    byTouch = event.pointerType === 'touch';
    doubleTap.down(event);
    if (fingers.count === 1) {
      origin = { x: leftOf(event), window: target.window(), box: event.shiftKey, slop: byTouch ? SLOP.touch : SLOP.mouse };
    } else {
      box.hidden = true;
      origin = null;
      pinch = fingers.count === 2 ? { ...fingers.pair(), window: target.window() } : null;
    }
  });
  over.addEventListener('pointermove', (event) => {
    if (!fingers.has(event)) return;
    fingers.set(event, leftOf(event));
    if (pinch !== null) {
      const { distance, centre } = fingers.pair();
      const zoomed = zoom(pinch.window, tsAt(pinch.centre, pinch.window), pinch.distance / distance);
      target.onWindow(shift(zoomed, (pinch.centre - centre) / target.width()));
    } else if (origin !== null) {
      const by = leftOf(event) - origin.x;
      if (origin.box) {
        const left = Math.max(0, Math.min(origin.x, leftOf(event)));
        const width = Math.min(target.width(), Math.max(origin.x, leftOf(event))) - left;
        box.style.left = `${left}px`;
        box.style.width = `${width}px`;
        box.hidden = false;
      } else if (Math.abs(by) > origin.slop || over.classList.contains('panning')) {
        over.classList.add('panning');
        target.onWindow(shift(origin.window, -by / target.width()));
      }
    }
  });
  const release = (event: PointerEvent): void => {
    if (!fingers.delete(event)) return;
    over.classList.remove('panning');
    pinch = null;
    const left = fingers.only();
    if (left !== null) {
      // the finger that stays goes on as one that drags
      origin = { x: left, window: target.window(), box: false, slop: SLOP.touch };
      return;
    }
    if (origin?.box === true) {
      box.hidden = true;
      const [a, b] = [origin.x, leftOf(event)].sort((one, other) => one - other) as [number, number];
      const window = origin.window;
      if (event.type === 'pointerup' && b - a > 4) target.onWindow({ from: tsAt(Math.max(0, a), window), to: tsAt(Math.min(target.width(), b), window) });
    }
    origin = null;
    doubleTap.up(event);
  };
  // some browsers make a double click of a double tap, others do not
  over.addEventListener('dblclick', () => byTouch || target.onBack());
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
