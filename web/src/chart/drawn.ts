/** From frame to frame: how far each pen had been drawn, and so from where on its line differs now. */
import type { Store } from '../data/store';
import type { Pen } from '../pens/pen';

interface End {
  readonly store: Store;
  readonly epoch: number;
  /** of the newest sample */
  readonly ts: number;
}

export class Drawn {
  #ends = new Map<Pen, End>();
  #now = 0;

  /** From where on lines differ from those of the last frame, in µs; -Infinity: anywhere. `now`: up to where values hold. */
  changedFrom(pens: readonly Pen[], now: number): number {
    let from = now;
    const ends = new Map<Pen, End>();
    for (const pen of pens) {
      for (const store of [pen.shown, pen.earlier]) {
        if (store === null) continue;
        const ts = store.last()?.ts ?? -Infinity;
        const before = this.#ends.get(pen);
        if (store === pen.shown) ends.set(pen, { store, epoch: store.epoch, ts });
        // an earlier period comes whole, and with others that are compared nothing is kept
        if (store === pen.earlier || before?.store !== store || before.epoch !== store.epoch) from = -Infinity;
        // from its last sample, which has been drawn, or to where its value was held, the line goes on
        else if (before.ts !== ts) from = Math.min(from, before.ts);
        else if (pen.tag.step) from = Math.min(from, this.#now);
      }
    }
    this.#ends = ends;
    this.#now = now;
    return from;
  }
}
