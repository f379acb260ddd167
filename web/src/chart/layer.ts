/**
 * A picture of the lines that is kept from frame to frame: a live window that moves by whole pixels moves it, and only what is new is drawn. So a frame costs what has come
 * since the last one, however many pens there are.
 */
import type { Window } from '../time/spans';
import type { Box } from './axes';

/** Lines at the seam are drawn over so many pixels again: their ends are cut, and their middles not. */
const SEAM = 4;

export interface LayerContent {
  /** changes with everything that changes what is drawn, but for time */
  readonly key: string;
  readonly window: Window;
  /** From where on samples have come since the last frame, in µs; -Infinity: anywhere. */
  readonly changedFrom: number;
  /** Draw a part of the window. */
  readonly paint: (ctx: CanvasRenderingContext2D, part: Window) => void;
}

export class Layer {
  #canvas = document.createElement('canvas');
  #key = '';
  #from = 0;
  #to = 0;

  /** Draw the content into a box of `ctx`, over the whole height of its canvas. */
  draw(ctx: CanvasRenderingContext2D, box: Box, { key, window, changedFrom, paint }: LayerContent): void {
    const own = this.#canvas.getContext('2d');
    if (own === null) return;
    const { width, height } = ctx.canvas;
    const perUs = box.width / (window.to - window.from);
    const moved = (window.from - this.#from) * perUs;
    const pixels = Math.round(moved);
    const kept =
      key === this.#key && width === this.#canvas.width && height === this.#canvas.height && Math.abs(this.#to - this.#from - (window.to - window.from)) < 2 && Math.abs(moved - pixels) < 0.01 && pixels >= 0;
    const x = (ts: number): number => box.left + (ts - window.from) * perUs;
    let left = -Infinity;
    if (kept) {
      left = Math.floor(Math.min(x(changedFrom), box.left + box.width - pixels)) - SEAM;
      if (pixels > 0) {
        own.globalCompositeOperation = 'copy';
        own.drawImage(this.#canvas, -pixels, 0);
        own.globalCompositeOperation = 'source-over';
      }
    } else {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    this.#key = key;
    this.#from = window.from;
    this.#to = window.to;
    left = Math.max(box.left, left);
    own.clearRect(left, 0, width - left, height);
    own.save();
    own.beginPath();
    own.rect(left, 0, width - left, height);
    own.clip();
    // a little more than what is seen of it
    paint(own, { from: Math.max(window.from, window.from + (left - box.left - SEAM) / perUs), to: window.to });
    own.restore();
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left, 0, width - box.left, height);
    ctx.clip();
    ctx.drawImage(this.#canvas, 0, 0);
    ctx.restore();
  }
}
