/** A pen: a tag on the chart, with what the live tail brought of it and, while paused, what a range query did. */
import type { Tag } from './protocol';
import { Store } from './store';

export class Pen {
  readonly live = new Store();
  /** of the window that is looked at while paused; null: not fetched yet */
  history: Store | null = null;
  /** its subscription */
  id = -1;

  constructor(
    public tag: Tag,
    /** index in the palette */
    public color: number,
  ) {}

  get path(): string {
    return this.tag.path;
  }

  /** Drawn as a lane of named states above the chart, not as a line. */
  get lane(): boolean {
    return this.tag.kind === 'digital' || this.tag.kind === 'bool' || this.tag.kind === 'text';
  }

  /** What is on the screen. */
  get shown(): Store {
    return this.history ?? this.live;
  }
}
