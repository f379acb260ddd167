/**
 * When the chart is drawn: as often as what is seen changes, and no more. A live window moves pixel by pixel, up to sixty times a second where it is short; while a
 * hand moves it, it follows at once. Drawing never takes more than half of the time.
 */
import type { Window } from '../time/spans';

const FRAME_MS = 16;
/** With nothing to draw it looks so often whether there is. */
const IDLE_MS = 100;
/** New samples that change less than half a pixel of the chart wait so long at the most. */
const LAZY_MS = 100;
const GESTURE_MS = 250;

export interface Scene {
  readonly window: () => Window;
  readonly live: () => boolean;
  /** of the chart, CSS pixels */
  readonly width: () => number;
  readonly draw: (window: Window) => void;
  /** at every turn, drawn or not */
  readonly onTurn: (at: number) => void;
}

export class Painter {
  #dirty = true;
  #lazy = false;
  #gestureAt = -Infinity;
  #drawn = { at: -Infinity, to: 0, took: 0 };
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waiting = false;

  constructor(private readonly scene: Scene) {}

  start(): void {
    this.#next(0);
  }

  /** What is seen has changed. */
  dirty(): void {
    this.#dirty = true;
  }

  /** Samples have come at the edge. */
  lazy(): void {
    this.#lazy = true;
  }

  /** A hand moves the chart. */
  gesture(): void {
    this.#gestureAt = performance.now();
    this.#dirty = true;
    this.#next(0);
  }

  #next(delay: number): void {
    if (this.#waiting) return;
    clearTimeout(this.#timer);
    const ask = (): void => {
      this.#waiting = true;
      requestAnimationFrame((at) => {
        this.#waiting = false;
        this.#turn(at);
      });
    };
    if (delay <= FRAME_MS) ask();
    // asked for later, and not at every refresh of the screen: an idle page costs next to nothing
    else this.#timer = setTimeout(ask, delay - 8);
  }

  #turn(at: number): void {
    const { scene } = this;
    const window = scene.window();
    const pixel = (window.to - window.from) / Math.max(1, scene.width());
    // a live window that has not moved by half a pixel looks the same
    const moved = Math.abs(window.to - this.#drawn.to) >= 0.5 * pixel;
    if (this.#dirty || moved || (this.#lazy && at - this.#drawn.at >= LAZY_MS)) {
      this.#dirty = this.#lazy = false;
      const begin = performance.now();
      scene.draw(window);
      this.#drawn = { at, to: window.to, took: performance.now() - begin };
    }
    scene.onTurn(at);
    const wanted = at - this.#gestureAt < GESTURE_MS ? FRAME_MS : scene.live() ? Math.min(IDLE_MS, pixel / 1000) : IDLE_MS;
    this.#next(Math.max(FRAME_MS, wanted, 2 * this.#drawn.took));
  }
}
