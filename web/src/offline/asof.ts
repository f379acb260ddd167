/** Up to when what a page shows is known: now, while it is connected; else since when it is not. Times are µs of the server's clock. */
import type { Clock } from '../data/clock';
import type { ConnectionState, Stream } from '../data/stream';

export class AsOf {
  #at: number | null = null;
  #live = false;

  constructor(
    private readonly clock: Clock,
    private readonly stream: () => Pick<Stream, 'heard'>,
  ) {}

  /** Null: it is live, or nothing is known. */
  get at(): number | null {
    return this.#at;
  }

  /** What is shown ends here. */
  now(): number {
    return this.#at ?? this.clock.now();
  }

  /** How old what is shown is; null where `at` is. */
  get age(): number | null {
    return this.#at === null ? null : Math.max(0, this.clock.now() - this.#at);
  }

  /** Of the connection. */
  state({ name }: ConnectionState): void {
    if (name === 'live') this.#at = null;
    else if (this.#live) this.#at = this.clock.now() - (Date.now() - this.stream().heard) * 1000;
    this.#live = name === 'live';
  }

  /** What is shown was kept: known up to `at`. Not where there is something newer. */
  restore(at: number): void {
    if (!this.#live) this.#at = at;
  }
}
