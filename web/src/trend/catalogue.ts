/** The tags of the server as the page knows them: asked for as it opens, whenever it is connected again, and now and then. */
import { getTags } from '../data/api';
import type { Tag } from '../data/protocol';

/** While the server has no tags yet. */
const EMPTY_RETRY_MS = 2000;
/** The demo and real plants get new tags now and then. */
const REFRESH_MS = 60_000;

export interface CatalogueEvents {
  /** they have come, for the first time or again */
  readonly onTags: (tags: readonly Tag[]) => Promise<void>;
  readonly onFailed: (error: unknown, again: () => void) => void;
}

export class Catalogue {
  #tags: ReadonlyMap<string, Tag> = new Map();

  constructor(private readonly events: CatalogueEvents) {}

  /** By path. */
  get tags(): ReadonlyMap<string, Tag> {
    return this.#tags;
  }

  /** What it was, while the server is away. */
  set(tags: readonly Tag[]): void {
    this.#tags = new Map(tags.map((tag) => [tag.path, tag]));
  }

  async load(): Promise<void> {
    try {
      const tags = await getTags();
      this.set(tags);
      await this.events.onTags(tags);
      if (tags.length === 0) setTimeout(() => void this.load(), EMPTY_RETRY_MS);
    } catch (error) {
      this.events.onFailed(error, () => void this.load());
    }
  }

  /** From now on, now and then; not while that is not `worthwhile`. */
  refresh(worthwhile: () => boolean): void {
    setInterval(() => worthwhile() && void this.load(), REFRESH_MS);
  }
}
