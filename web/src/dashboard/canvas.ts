/** A canvas that has the size of its tile, in the device's pixels. What is drawn on it is larger on a wall, as the style sheet has it (`--wall`). */
import { el } from '../ui/dom';

export const FONT = '11px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

export class Canvas {
  readonly element: HTMLElement;
  readonly #canvas = el('canvas', { 'aria-hidden': 'true' });
  #scale = 1;
  width = 0;
  height = 0;

  constructor(label: string, onResize: () => void) {
    this.element = el('div', { class: 'plot', role: 'img', 'aria-label': label }, this.#canvas);
    new ResizeObserver(() => {
      this.#scale = Number(getComputedStyle(this.element).getPropertyValue('--wall')) || 1;
      this.width = this.element.clientWidth / this.#scale;
      this.height = this.element.clientHeight / this.#scale;
      onResize();
    }).observe(this.element);
  }

  /** For screen readers: what is on it now. */
  describe(what: string): void {
    if (this.element.getAttribute('aria-label') !== what) this.element.setAttribute('aria-label', what);
  }

  /** An empty canvas to draw on in CSS pixels; null while it has no size. */
  begin(): CanvasRenderingContext2D | null {
    const ratio = devicePixelRatio * this.#scale;
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
