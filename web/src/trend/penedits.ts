/** Which pens the page has: those that its address names or, without any, the liveliest; then what is added and removed by hand. */
import { Problem } from '../data/api';
import type { Tag } from '../data/protocol';
import { faultOf } from '../data/range';
import { askForExpression } from '../pens/expression';
import { firstPens } from '../pens/first';
import { MAX_PENS, type PenChoice } from '../pens/pen';
import type { PenSet } from '../pens/penset';
import { text } from '../ui/strings';
import type { Problems } from './problems';

export interface PenEditsTarget {
  readonly pens: PenSet;
  readonly problems: Problems;
  readonly tags: () => ReadonlyMap<string, Tag>;
  /** the server's, µs */
  readonly now: () => number;
  /** others were chosen in place of those before */
  readonly onChosen: () => void;
  readonly onAdded: () => void;
}

export class PenEdits {
  #chosen = false;
  /** of the address, and no tags yet */
  #unknown: readonly PenChoice[] = [];

  /** `wanted`: of the address; null where it names none. */
  constructor(
    private readonly target: PenEditsTarget,
    private wanted: readonly PenChoice[] | null,
  ) {}

  /** Whether the page has got the pens that it begins with. */
  get chosen(): boolean {
    return this.#chosen;
  }

  /** Tags are known: the page gets its first pens, once; later on those of its address whose tags have come to be. */
  async begin(tags: readonly Tag[]): Promise<void> {
    if (tags.length === 0) return;
    if (this.#chosen) {
      const { pens, tags: known } = this.target;
      if (this.#unknown.some(({ path }) => known().has(path))) this.choose([...pens.all.map((pen) => pen.choice), ...this.#unknown]);
      return;
    }
    const choices = this.wanted ?? (await firstPens(tags, this.target.now()));
    this.#chosen = true;
    this.choose(choices);
  }

  /** Have these pens and no others. */
  choose(choices: readonly PenChoice[]): void {
    const { pens, problems, tags, onChosen } = this.target;
    this.wanted = choices;
    const unknown = pens.choose(choices, tags());
    this.#unknown = choices.filter(({ path, calculated }) => !calculated && unknown.includes(path));
    if (unknown.length > 0) problems.tell(text.noSuchTag(unknown.join(', ')), 'pens');
    onChosen();
  }

  /** Add tags, or remove them where all of them are pens. */
  toggle(tags: readonly Tag[]): void {
    const { pens } = this.target;
    const there = tags.flatMap((tag) => pens.of(tag) ?? []);
    if (there.length === tags.length) pens.remove(there);
    else this.add(tags);
  }

  add(tags: readonly Tag[]): void {
    const { pens, problems, onAdded } = this.target;
    const left = pens.add(tags);
    const told = tags.length === 1 ? text.tooManyPens(MAX_PENS) : text.notAdded(MAX_PENS, left, tags.length);
    problems.tell(left > 0 ? told : null, 'pens');
    onAdded();
  }

  /** Ask for a calculated pen below a button. */
  askForExpression(anchor: HTMLElement): void {
    const tags = this.target.pens.all.filter((pen) => pen.expression === null && pen.tag.kind !== 'text').map((pen) => pen.tag);
    askForExpression(anchor, tags, (what) => this.#addExpression(what));
  }

  /** Add a calculated pen, or say what is wrong with it. */
  async #addExpression(what: string): Promise<string | null> {
    const { pens, onAdded } = this.target;
    if (pens.full) return text.tooManyPens(MAX_PENS);
    try {
      const fault = await faultOf(what);
      if (fault !== null) return fault;
    } catch (error) {
      if (error instanceof Problem) return error.message;
      if (error instanceof TypeError) return text.unreachable;
      throw error;
    }
    if (!pens.addCalculated(what)) return text.penExists(what);
    onAdded();
    return null;
  }
}
