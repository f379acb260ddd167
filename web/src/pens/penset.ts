/** The pens of a chart: which there are, in their order, with colours that none has twice. No DOM. */
import type { Tag } from '../data/protocol';
import { calculatedTag } from './expression';
import { MAX_PENS, Pen, type PenChoice } from './pen';

export interface PenSetEvents {
  readonly onAdd: (pen: Pen) => void;
  readonly onRemove: (pen: Pen) => void;
  /** after any change */
  readonly onChange: () => void;
}

export class PenSet {
  #pens: Pen[] = [];

  constructor(private readonly events: PenSetEvents) {}

  get all(): readonly Pen[] {
    return this.#pens;
  }

  get full(): boolean {
    return this.#pens.length >= MAX_PENS;
  }

  of(tag: Tag): Pen | undefined {
    return this.#pens.find((pen) => pen.isOf({ path: tag.path }));
  }

  /** Add tags that are no pens yet, as many as there is room for. Returns how many were left out. */
  add(tags: readonly Tag[]): number {
    const missing = tags.filter((tag) => this.of(tag) === undefined);
    const added = missing.slice(0, MAX_PENS - this.#pens.length);
    for (const tag of added) this.#put(new Pen(tag, this.#freeColor()));
    if (added.length > 0) this.events.onChange();
    return missing.length - added.length;
  }

  /** Add a calculated pen; false where one of its name is there. */
  addCalculated(text: string): boolean {
    const tag = calculatedTag(text);
    if (this.#pens.some((pen) => pen.path === tag.path)) return false;
    this.#put(new Pen(tag, this.#freeColor(), text));
    this.events.onChange();
    return true;
  }

  remove(pens: readonly Pen[]): void {
    this.#pens = this.#pens.filter((pen) => !pens.includes(pen));
    for (const pen of pens) this.events.onRemove(pen);
    this.events.onChange();
  }

  /** Have these and no others. Returns the paths that are no tags. */
  choose(choices: readonly PenChoice[], tags: ReadonlyMap<string, Tag>): string[] {
    const unknown: string[] = [];
    const kept = this.#pens;
    for (const pen of kept) if (!choices.some((choice) => pen.isOf(choice))) this.events.onRemove(pen);
    this.#pens = [];
    for (const choice of choices) {
      const { path, calculated, ...style } = choice;
      const pen = kept.find((before) => before.isOf(choice));
      const tag = calculated ? calculatedTag(path) : tags.get(path);
      // a name stands for one pen: the samples of two could not be told apart
      if (this.#pens.some((other) => other.path === (pen ?? tag)?.path)) continue;
      if (pen !== undefined) {
        pen.style = style;
        this.#pens.push(pen);
      } else if (tag !== undefined) this.#put(new Pen(tag, style, calculated ? path : null));
      else unknown.push(path);
    }
    this.events.onChange();
    return unknown;
  }

  #put(pen: Pen): void {
    this.#pens.push(pen);
    this.events.onAdd(pen);
  }

  #freeColor(): number {
    const taken = new Set(this.#pens.map((pen) => pen.color));
    for (let color = 0; color < MAX_PENS; color++) if (!taken.has(color)) return color;
    return 0;
  }
}
