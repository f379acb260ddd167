/** When a page writes what it keeps: while nothing else is to do, seldom, and when it may be the last moment. */

/** A disk wears out, and a page may be open for years. */
const EVERY_MS = 30_000;
/** After the first data. */
const SOON_MS = 2000;
/** A browser that always has something else to do: write all the same. */
const IDLE_WITHIN_MS = 2000;

export class Keeper {
  #changed = false;
  #writing = false;
  #stopped = false;
  #next = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `write` takes what there is at once, and writes it. */
  constructor(
    private readonly write: () => Promise<void>,
    private readonly now: () => number = () => performance.now(),
  ) {
    document.addEventListener('visibilitychange', () => document.visibilityState === 'hidden' && this.flush());
    window.addEventListener('pagehide', () => this.flush());
  }

  /** There is something new. */
  changed(): void {
    if (this.#changed || this.#stopped) return;
    this.#changed = true;
    const wait = this.#next === 0 ? SOON_MS : Math.max(SOON_MS, this.#next - this.now());
    this.#timer = setTimeout(() => idle(() => this.flush()), wait);
  }

  /** Write at once what is new. */
  flush(): void {
    if (!this.#changed || this.#writing) return;
    clearTimeout(this.#timer);
    this.#changed = false;
    this.#writing = true;
    this.#next = this.now() + EVERY_MS;
    void this.write().finally(() => (this.#writing = false));
  }

  /** What is new is not to be written. */
  drop(): void {
    clearTimeout(this.#timer);
    this.#changed = false;
  }

  /** Nothing more, until the page is opened again. */
  stop(): void {
    this.drop();
    this.#stopped = true;
  }
}

function idle(then: () => void): void {
  // Safari has no requestIdleCallback
  if ('requestIdleCallback' in globalThis) requestIdleCallback(then, { timeout: IDLE_WITHIN_MS });
  else setTimeout(then);
}
