/** The windows that were left by moving and zooming, to go back to and forward again. One gesture of many small moves counts once. */
import type { Window } from './spans';

/** Moves that follow each other faster than this are one gesture. */
const GESTURE_MS = 700;
const KEPT = 50;

/** What was looked at: a window that was held, or, with null, the live one of that span. */
export interface View {
  readonly window: Window | null;
  readonly span: number;
}

export class Views {
  #left: View[] = [];
  #undone: View[] = [];
  #movedAt = -Infinity;

  /** The window is about to move; `now` in ms, of a clock that runs evenly. */
  leave(view: View, now: number): void {
    if (now - this.#movedAt > GESTURE_MS) {
      this.#left.push(view);
      if (this.#left.length > KEPT) this.#left.shift();
    }
    this.#undone = [];
    this.#movedAt = now;
  }

  /** The view before the last gesture, or null where there was none; `shown` is what going forward leads to. */
  back(shown: View): View | null {
    return this.#turn(this.#left, this.#undone, shown);
  }

  /** What was shown before going back, or null. */
  forward(shown: View): View | null {
    return this.#turn(this.#undone, this.#left, shown);
  }

  #turn(from: View[], to: View[], shown: View): View | null {
    // what comes next is a gesture of its own
    this.#movedAt = -Infinity;
    const view = from.pop() ?? null;
    if (view !== null) to.push(shown);
    return view;
  }
}
