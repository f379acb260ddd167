/** A canvas that has the size of its tile, in the device's pixels. */
import { el } from '../ui/dom';

export const FONT = '11px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

export class Canvas {
  readonly element: HTMLElement;
  readonly #canvas = el('canvas', { 'aria-hidden': 'true' });
  width = 0;
  height = 0;

  constructor(label: string, onResize: () => void) {
    this.element = el('div', { class: 'plot', role: 'img', 'aria-label': label }, this.#canvas);
    new ResizeObserver(() => {
      this.width = this.element.clientWidth;
      this.height = this.element.clientHeight;
      onResize();
    }).observe(this.element);
  }

  /** For screen readers: what is on it now. */
  describe(what: string): void {
    if (this.element.getAttribute('aria-label') !== what) this.element.setAttribute('aria-label', what);
  }

  /** An empty canvas to draw on in CSS pixels; null while it has no size. */
  begin(): CanvasRenderingContext2D | null {
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    const context = this.#canvas.getContext('2d');
    if (width === 0 || height === 0 || context === null) return null;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.font = FONT;
    return context;
  }
}
