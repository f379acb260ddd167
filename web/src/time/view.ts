/** What is looked at: the live window of a span, or one that is held still; and how it moves, back and forward. No DOM. Times are µs. */
import { clampSpan, shift, type Window, zoom } from './spans';
import { type View as Left, Views } from './views';

export interface ViewEvents {
  /** another window is held */
  readonly onHold: (window: Window) => void;
  readonly onLive: () => void;
  /** of the live window */
  readonly onSpan: () => void;
}

export class View {
  #held: Window | null = null;
  #heldAt = 0;
  #views = new Views();

  /** `now` is the server's; `tick` runs evenly, in ms. */
  constructor(
    private readonly now: () => number,
    private readonly events: ViewEvents,
    private spanLive: number,
    private readonly tick: () => number = () => performance.now(),
  ) {}

  /** Of the live window. */
  get span(): number {
    return this.spanLive;
  }

  get held(): Window | null {
    return this.#held;
  }

  /** Up to when newest values hold: now, or when the window was held. */
  get holdsTo(): number {
    return this.#held === null ? this.now() : this.#heldAt;
  }

  get window(): Window {
    if (this.#held !== null) return this.#held;
    // a little air, so that the newest sample is not cut in half by the edge
    const to = Math.round(this.now() + this.spanLive * 0.008);
    return { from: to - this.spanLive, to };
  }

  /** Hold the chart still on a window, at most as long as can be shown, without a way back. */
  hold({ from, to }: Window): void {
    this.#held = { from, to: from + clampSpan(to - from) };
    this.#heldAt = this.now();
    this.events.onHold(this.#held);
  }

  /** Hold another window than before, from which one may go back. */
  move(window: Window): void {
    this.#leave();
    this.hold(window);
  }

  pan(part: number): void {
    this.move(shift(this.window, part));
  }

  zoom(factor: number): void {
    const window = this.window;
    this.move(zoom(window, (window.from + window.to) / 2, factor));
  }

  pauseOrLive(): void {
    if (this.#held === null) this.hold(this.window);
    else this.goLive();
  }

  goLive(): void {
    if (this.#held === null) return;
    this.#held = null;
    this.events.onLive();
  }

  /** A span that ends where the window does. */
  preset(span: number): void {
    this.#leave();
    if (this.#held !== null) this.hold({ from: this.#held.to - span, to: this.#held.to });
    this.setSpan(span);
  }

  setSpan(span: number): void {
    if (span === this.spanLive) return;
    this.spanLive = span;
    this.events.onSpan();
  }

  back(): void {
    this.#show(this.#views.back(this.#shown()));
  }

  forward(): void {
    this.#show(this.#views.forward(this.#shown()));
  }

  #shown(): Left {
    return { window: this.#held, span: this.spanLive };
  }

  #leave(): void {
    this.#views.leave(this.#shown(), this.tick());
  }

  #show(view: Left | null): void {
    if (view === null) return;
    if (view.window !== null) this.hold(view.window);
    else {
      this.goLive();
      this.setSpan(view.span);
    }
  }
}
