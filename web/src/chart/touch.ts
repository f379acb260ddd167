/** Fingers on an element: which are down, and where; two taps that are one gesture. Places are CSS pixels. */

/** Fingers that are closer to each other are taken for so far apart: of almost nothing the ratio would jump. */
const CLOSEST = 24;
const DOUBLE_MS = 350;
const DOUBLE_PX = 30;
/** A tap is no longer, and goes no further. */
const TAP_MS = 300;
const TAP_PX = 10;

interface At {
  /** from the left edge of the element */
  readonly left: number;
  readonly y: number;
}

/** The pointers that are down; a mouse is one too. */
export class Fingers {
  #down = new Map<number, At>();

  get count(): number {
    return this.#down.size;
  }

  has({ pointerId }: PointerEvent): boolean {
    return this.#down.has(pointerId);
  }

  set({ pointerId, clientY }: PointerEvent, left: number): void {
    this.#down.set(pointerId, { left, y: clientY });
  }

  delete({ pointerId }: PointerEvent): boolean {
    return this.#down.delete(pointerId);
  }

  /** Where the only one is; null: there are more, or none. */
  only(): number | null {
    const [one, other] = this.#down.values();
    return one === undefined || other !== undefined ? null : one.left;
  }

  /** Of the first two: how far they are apart, in whichever direction, and where their middle is. */
  pair(): { distance: number; centre: number } {
    const [a = { left: 0, y: 0 }, b = a] = this.#down.values();
    return { distance: Math.max(CLOSEST, Math.hypot(a.left - b.left, a.y - b.y)), centre: (a.left + b.left) / 2 };
  }
}

/** Tells when one finger has tapped twice. */
export class DoubleTap {
  #down: PointerEvent | null = null;
  #last: PointerEvent | null = null;

  constructor(private readonly then: () => void) {}

  down(event: PointerEvent): void {
    this.#down = event.pointerType === 'touch' && event.isPrimary ? event : null;
    // a second finger makes it something else
    if (this.#down === null) this.#last = null;
  }

  up(event: PointerEvent): void {
    const down = this.#down;
    this.#down = null;
    const tapped = down !== null && event.type === 'pointerup' && event.pointerId === down.pointerId && near(down, event, TAP_MS, TAP_PX);
    const twice = tapped && this.#last !== null && near(this.#last, event, DOUBLE_MS, DOUBLE_PX);
    this.#last = tapped && !twice ? event : null;
    if (twice) this.then();
  }
}

function near(a: PointerEvent, b: PointerEvent, ms: number, px: number): boolean {
  return b.timeStamp - a.timeStamp <= ms && Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) <= px;
}
