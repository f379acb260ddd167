/** How the page opens: with what the server has or, without it, with what is kept on this device. */
import { isAway } from '../data/api';
import type { Clock } from '../data/clock';
import type { Tag } from '../data/protocol';
import type { Stream } from '../data/stream';
import type { PenSet } from '../pens/penset';
import type { View } from '../time/view';
import { text } from '../ui/strings';
import { askForToken } from '../ui/token';
import type { Catalogue } from './catalogue';
import { parseHash } from './hash';
import type { Offline } from './offline';
import type { PenEdits } from './penedits';
import type { Problems } from './problems';

/** A server that has not answered by then is not waited for: what is kept is shown meanwhile. */
const PATIENCE_MS = 4000;

export interface Opened {
  readonly clock: Clock;
  readonly stream: Stream;
  readonly catalogue: Catalogue;
  readonly offline: Offline;
  readonly edits: PenEdits;
  readonly pens: PenSet;
  readonly view: View;
  readonly problems: Problems;
  readonly tagsCame: (tags: readonly Tag[]) => Promise<void>;
  readonly addressChanged: (hash: ReturnType<typeof parseHash>) => void;
  readonly redraw: () => void;
}

export class Opening {
  constructor(private readonly page: Opened) {}

  async start(): Promise<void> {
    const late = setTimeout(() => void this.#restore(), PATIENCE_MS);
    await this.page.catalogue.load();
    clearTimeout(late);
    this.page.stream.start();
  }

  /** The tags did not come: what is kept on this device is shown, where nothing is yet. */
  async failed(error: unknown, again: () => void): Promise<void> {
    const { offline, edits, problems } = this.page;
    if (isAway(error) && ((await this.#restore()) || offline.old)) return;
    problems.failed(error, 'connection', again);
    if (isAway(error) && !edits.chosen && (await offline.hasOthers())) askForToken(text.offline.tokenWanted, again);
  }

  /** Whether there was something. */
  async #restore(): Promise<boolean> {
    const { clock, stream, catalogue, offline, edits, pens, view, problems, tagsCame, addressChanged, redraw } = this.page;
    const hash = parseHash(location.hash);
    const kept = await offline.restore(hash);
    if (kept === null || edits.chosen) return false;
    clock.restore(kept.offset);
    offline.asOf.restore(kept.at);
    catalogue.set(kept.tags);
    if (hash.pens === null) addressChanged(parseHash(kept.hash));
    await tagsCame(kept.tags);
    pens.all.forEach(kept.fill);
    // with the history that is kept of it
    if (view.held !== null) view.hold(view.held);
    problems.tell(null, 'connection');
    redraw();
    // the catalogue may still be waited for
    stream.start();
    return true;
  }
}
