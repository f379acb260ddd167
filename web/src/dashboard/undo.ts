/** The versions of a document while it is edited. */
const MOST = 200;

export class Undo<T> {
  #before: T[] = [];
  #after: T[] = [];

  constructor(private now: T) {}

  get current(): T {
    return this.now;
  }

  get canUndo(): boolean {
    return this.#before.length > 0;
  }

  get canRedo(): boolean {
    return this.#after.length > 0;
  }

  /** A new version; what had been undone is forgotten. */
  change(next: T): void {
    this.#before.push(this.now);
    if (this.#before.length > MOST) this.#before.shift();
    this.#after = [];
    this.now = next;
  }

  undo(): void {
    const before = this.#before.pop();
    if (before === undefined) return;
    this.#after.push(this.now);
    this.now = before;
  }

  redo(): void {
    const after = this.#after.pop();
    if (after === undefined) return;
    this.#before.push(this.now);
    this.now = after;
  }
}
