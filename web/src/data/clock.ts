/**
 * The server's now, which the live window follows: a browser's clock may be wrong.
 *
 * An answer's Date header has whole seconds, cut off; the newest sample tells more. What is never later than the truth moves the clock forward,
 * and only an answer that shows it to be far ahead sets it back.
 */
const SECOND = 1_000_000;
/** A sample further ahead than this comes from a source with a wrong clock. */
const TRUSTED_AHEAD = 5 * SECOND;

export class Clock {
  #offset: number | null = null;

  /** `local`: a clock that runs evenly, in µs. */
  constructor(private readonly local: () => number = () => (performance.timeOrigin + performance.now()) * 1000) {}

  /** The server's clock less that of this device, µs. */
  get offset(): number {
    return this.#offset ?? 0;
  }

  /** As it was when the server was there last; what the server says now is better. */
  restore(offset: number): void {
    this.#offset ??= offset;
  }

  now(): number {
    return this.local() + (this.#offset ?? 0);
  }

  /** An answer's Date, in µs. */
  serverDate(us: number): void {
    const offset = us - this.local();
    // the truth lies within this second and the time that the answer took
    if (this.#offset === null || offset > this.#offset || offset < this.#offset - TRUSTED_AHEAD) this.#offset = offset;
  }

  /** A live sample's timestamp. */
  sample(us: number): void {
    const ahead = us - this.now();
    if (this.#offset !== null && ahead > 0 && ahead < TRUSTED_AHEAD) this.#offset += ahead;
  }
}
