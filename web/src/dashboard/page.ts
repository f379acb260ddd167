/** The page of dashboards: picks one, shows it live, has it edited. The name stands in the hash of the address. */
import { address, isAway, observeDate, observeRefused, Problem, token } from '../data/api';
import { Clock } from '../data/clock';
import { DecodedSocket } from '../data/decoder';
import { deleteDocument, type Described, listDocuments } from '../data/documents';
import { subprotocols } from '../data/protocol';
import { type ConnectionState, Stream } from '../data/stream';
import { ageText } from '../offline/age';
import { offerNewer } from '../offline/newer';
import { announce } from '../ui/announce';
import { el, setText } from '../ui/dom';
import { text } from '../ui/strings';
import { initTheme } from '../ui/theme';
import { askForToken } from '../ui/token';
import { Board } from './board';
import { ask } from './dialogs';
import type { Dashboard } from './document';
import { Editor } from './editor';
import { Feed } from './feed';
import { Header } from './header';
import { listenForHelp } from './keyslist';
import { Kpis } from './kpis';
import { LevelWatch } from './levels';
import { Offline } from './offline';
import { Problems } from './problems';
import { read, save, type Shown } from './saving';
import { strings } from './strings';
import { tagsOf } from './tiles/kpi';
import type { Context } from './tiles/tile';

/** What comes is shown so often at the most; without anything new, time goes on so seldom. */
const FRAME_MS = 250;
const IDLE_MS = 1000;
/** Whether somebody has changed the dashboard that is shown. */
const LOOK_MS = 30_000;
/** A server that has not answered a page that opens by then is not waited for: what is kept is shown meanwhile. */
const PATIENCE_MS = 4000;

declare global {
  interface Window {
    /** For tests, and for the curious at the console. */
    dashboards: { state: () => string; frames: () => number; live: () => boolean };
  }
}

export class Page {
  #clock = new Clock();
  #list: Described[] = [];
  #shown: Shown | null = null;
  #editor: Editor | null = null;
  /** what is being edited, as it is shown */
  #preview: Dashboard | null = null;
  #kpisWanted = '';
  #dirty = true;
  #drawnAt = -Infinity;
  readonly #stream: Stream;
  readonly #feed: Feed;
  readonly #kpis: Kpis;
  readonly #board: Board;
  readonly #levels = new LevelWatch();
  readonly #offline: Offline;

  readonly #empty = el('div', { class: 'empty', hidden: true });
  readonly #main = el('main', { class: 'page' });
  readonly #problems = new Problems((again) => {
    this.#stream.retryNow();
    void this.#feed.loadTags().then(again);
  });
  readonly #header: Header;

  constructor(root: HTMLElement) {
    this.#stream = new Stream({
      connect: () => new DecodedSocket(address('v1/stream?compression=zstd-dict', 'ws'), subprotocols(token())),
      onState: (state) => this.#state(state),
      onProblem: (text) => (text === null ? this.#problems.clear() : this.#problems.tell(text)),
      diagnose: async () => (this.#offline.old ? null : this.#problems.diagnose()),
    });
    observeDate((us) => this.#clock.serverDate(us));
    observeRefused(() => this.#offline.refused());
    const redraw = (): void => void (this.#dirty = true);
    const came = (): void => {
      redraw();
      this.#offline.changed();
    };
    const expected = (error: unknown): boolean => this.#offline.old && isAway(error);
    this.#feed = new Feed(this.#stream, this.#clock, { onData: came, onProblem: (error) => expected(error) || this.#problems.failed(error) });
    this.#kpis = new Kpis(this.#clock, () => {
      if (expected(this.#kpis.problem)) return;
      if (this.#kpis.problem !== null) this.#problems.failed(this.#kpis.problem, undefined, 'figures');
      else this.#problems.clear('figures');
      redraw();
    });
    this.#offline = new Offline({ clock: this.#clock, stream: this.#stream, feed: this.#feed, kpis: this.#kpis, shown: () => this.#shown });
    const context: Context = { feed: this.#feed, kpis: this.#kpis, clock: this.#clock, dashboard: () => this.#now() ?? { title: '', tiles: [] }, redraw };
    this.#board = new Board(context);
    this.#header = new Header({ onEdit: () => this.#edit(), onNew: () => void this.#new(), onSkip: () => this.#board.element.focus() });
    this.#main.append(this.#problems.element, this.#empty, this.#board.element);
    root.append(this.#header.element, this.#main);
    initTheme(redraw);
    listenForHelp();
    window.addEventListener('hashchange', () => void this.#open());
    window.addEventListener('online', () => this.#stream.retryNow());
    window.addEventListener('beforeunload', (event) => this.#editor?.dirty && event.preventDefault());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState !== 'visible') return;
      this.#stream.retryNow();
      void this.#kpis.refresh();
    });
    setInterval(() => this.#state(this.#stream.state), 1000);
    setInterval(() => void this.#look(), LOOK_MS);
    requestAnimationFrame((at) => this.#frame(at));
    window.dashboards = { state: () => this.#stream.state.name, frames: () => this.#stream.frames, live: () => this.#shown !== null && this.#stream.state.name === 'live' };
    void this.#start();
    offerNewer();
  }

  async #start(): Promise<void> {
    const late = setTimeout(() => this.#shown === null && void this.#restore(), PATIENCE_MS);
    await this.#feed.loadTags();
    clearTimeout(late);
    this.#stream.start();
    await this.#open();
  }

  // --- which one

  /** The one that the address names, or the first. */
  async #open(): Promise<void> {
    const name = decodeURIComponent(location.hash.slice(1));
    if (this.#shown !== null && name !== '' && name === this.#shown.name) return;
    if (!(await this.#mayLeave())) {
      this.#namePage();
      return;
    }
    try {
      this.#list = await listDocuments('dashboards');
      const wanted = name || this.#list[0]?.name;
      if (wanted === undefined) {
        this.#show(null);
        return;
      }
      this.#show(await read(wanted));
      this.#problems.clear();
    } catch (error) {
      this.#show(null);
      if (error instanceof Problem && error.status === 404) this.#nothing(strings.missing(name));
      else if (isAway(error)) await this.#withoutServer(name, error);
      else this.#problems.failed(error, () => void this.#open());
    }
  }

  // --- without the server

  async #withoutServer(name: string, error: unknown): Promise<void> {
    if (await this.#restore()) return;
    if (this.#offline.old) this.#problems.tell(strings.offline.missing(name));
    else this.#problems.failed(error);
    if (this.#shown === null && (await this.#offline.hasOthers())) askForToken(text.offline.tokenWanted, () => void this.#open());
  }

  /** Show what is kept of the dashboard that the address names, or of the last one. Whether there was something. */
  async #restore(): Promise<boolean> {
    const kept = await this.#offline.restore(decodeURIComponent(location.hash.slice(1)));
    // the server has answered meanwhile
    if (kept === null || this.#stream.state.name === 'live') return kept !== null;
    this.#clock.restore(kept.offset);
    this.#offline.asOf.restore(kept.at);
    this.#list = [...kept.list];
    this.#feed.restore(kept.tags, kept.series);
    this.#show({ name: kept.name, etag: kept.etag, document: kept.document });
    this.#kpis.restore(kept.periods);
    this.#problems.clear();
    this.#state(this.#stream.state);
    // what the server has may still be waited for
    this.#stream.start();
    return true;
  }

  /** The server is back: what may have changed meanwhile. */
  async #back(): Promise<void> {
    await this.#feed.loadTags();
    void this.#kpis.refresh();
    if (this.#shown === null) await this.#open();
    else await this.#look();
  }

  #state(state: ConnectionState): void {
    if (this.#offline.connection(state)) void this.#back();
    const { at, age } = this.#offline.asOf;
    this.#header.state(state, at === null || age === null ? null : { at, age });
  }

  /** Show another one, or none; what was edited ends. */
  #show(shown: Shown | null): void {
    this.#editor?.end();
    this.#editor = null;
    this.#preview = null;
    this.#shown = shown;
    document.body.classList.remove('edits');
    this.#apply();
    this.#nothing(shown === null ? strings.none : shown.document.tiles.length === 0 ? strings.empty : null);
    this.#namePage();
  }

  #namePage(): void {
    this.#header.name(this.#list, this.#shown);
  }

  #nothing(text: string | null): void {
    this.#empty.hidden = text === null;
    setText(this.#empty, text ?? '');
  }

  /** The document as it is on the screen. */
  #now(): Dashboard | null {
    return this.#preview ?? this.#shown?.document ?? null;
  }

  /** Show the document as it is now, and ask for what its tiles want. */
  #apply(): void {
    const dashboard = this.#now() ?? { title: '', tiles: [] };
    this.#board.show(dashboard);
    this.#feed.set(this.#board.frames.flatMap(({ view }) => view.wants()));
    this.#wantKpis(dashboard);
    this.#dirty = true;
  }

  /** Only of equipment whose tags there are: one that is unknown would have all refused. */
  #wantKpis(dashboard: Dashboard): void {
    const wanted = dashboard.tiles.flatMap((tile) => {
      const equipment = tile.type === 'kpi' ? dashboard.equipment?.[tile.equipment] : undefined;
      return equipment !== undefined && tagsOf(equipment).every((path) => this.#feed.tags.has(path)) ? [{ equipment, period: (tile.type === 'kpi' && tile.period) || 'shift' }] : [];
    });
    const next = JSON.stringify([wanted, dashboard.shifts]);
    if (next === this.#kpisWanted) return;
    this.#kpisWanted = next;
    this.#kpis.set(wanted, dashboard.shifts);
  }

  /** Whether it has been changed on the server, by somebody else. */
  async #look(): Promise<void> {
    const shown = this.#shown;
    if (shown?.name == null || this.#editor !== null || document.visibilityState !== 'visible') return;
    try {
      this.#list = await listDocuments('dashboards');
      const standing = this.#list.find(({ name }) => name === shown.name);
      if (standing !== undefined && standing.etag !== shown.etag && this.#editor === null && this.#shown === shown) {
        const found = await read(shown.name);
        if (this.#editor === null && this.#shown === shown) this.#show(found);
      } else this.#namePage();
    } catch {
      // the connection's state tells of a server that is away
    }
  }

  // --- editing

  #edit(): void {
    const shown = this.#shown;
    if (shown === null || this.#editor !== null) return;
    this.#nothing(null);
    document.body.classList.add('edits');
    this.#editor = new Editor(shown.document, shown.name !== null, this.#board, {
      onChange: (dashboard) => {
        this.#preview = dashboard;
        this.#apply();
      },
      onSave: () => void this.#save(),
      onDone: () => void this.#leave(),
      onDelete: () => void this.#delete(),
      tags: () => this.#feed.tags,
    });
    this.#header.element.after(this.#editor.bar);
  }

  async #new(): Promise<void> {
    if (!(await this.#mayLeave())) return;
    this.#show({ name: null, etag: null, document: { version: 1, title: strings.newTitle, tiles: [] } });
    history.replaceState(null, '', '#');
    this.#edit();
  }

  async #leave(): Promise<void> {
    if (!(await this.#mayLeave())) return;
    const shown = this.#shown;
    if (shown?.name == null) {
      this.#shown = null;
      location.hash = '';
      await this.#open();
    } else this.#show(shown);
  }

  /** Asks where there are changes that would be lost. */
  async #mayLeave(): Promise<boolean> {
    if (this.#editor === null || !this.#editor.dirty) {
      this.#preview = null;
      return true;
    }
    const answer = await ask(strings.leave, { save: strings.save, discard: strings.discard });
    if (answer === 'save') return (await this.#save()) && this.#mayLeave();
    if (answer === 'discard') {
      this.#editor.end();
      this.#editor = null;
      this.#preview = null;
      return true;
    }
    return false;
  }

  /** Whether it is on the server now. */
  async #save(): Promise<boolean> {
    const [shown, editor] = [this.#shown, this.#editor];
    if (shown === null || editor === null) return false;
    try {
      const done = await save(shown, editor.dashboard);
      if ('saved' in done) {
        this.#shown = done.saved;
        this.#list = await listDocuments('dashboards');
        editor.saved();
        this.#problems.clear();
        this.#namePage();
        return true;
      }
      if ('theirs' in done) {
        this.#show(done.theirs);
        this.#edit();
      } else if (done.why !== null) this.#problems.tell(done.why);
    } catch (error) {
      this.#problems.failed(error);
    }
    return false;
  }

  async #delete(): Promise<void> {
    const shown = this.#shown;
    if (shown === null || (await ask(strings.removeSure(shown.document.title), { yes: strings.remove })) === null) return;
    try {
      if (shown.name !== null) await deleteDocument('dashboards', shown.name);
    } catch (error) {
      this.#problems.failed(error);
      return;
    }
    this.#show(null);
    location.hash = '';
    await this.#open();
  }

  // --- on the screen

  #frame(at: number): void {
    requestAnimationFrame((next) => this.#frame(next));
    if (document.visibilityState !== 'visible' || at - this.#drawnAt < (this.#dirty ? FRAME_MS : IDLE_MS)) return;
    this.#drawnAt = at;
    this.#dirty = false;
    // tags that have come to be known
    const dashboard = this.#now();
    if (dashboard !== null) this.#wantKpis(dashboard);
    const { age } = this.#offline.asOf;
    this.#board.update(this.#offline.asOf.now(), age === null ? null : strings.offline.old(ageText(age)));
    for (const passed of this.#levels.passed(this.#board.frames)) announce(passed);
  }
}
