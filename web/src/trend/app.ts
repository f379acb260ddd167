/** The trend page: wires tags, pens, stream, ranges and chart together. Times are µs since 1970. */
import { Chart } from '../chart/chart';
import type { Layout, Scaling } from '../chart/scales';
import { address, get, getTags, observeDate, Problem, token } from '../data/api';
import { Clock } from '../data/clock';
import { DecodedSocket } from '../data/decoder';
import { subprotocols, type Columns, type Tag } from '../data/protocol';
import { faultOf } from '../data/range';
import { type ConnectionState, Stream } from '../data/stream';
import { askForExpression } from '../pens/expression';
import { firstPens } from '../pens/first';
import { History } from '../pens/history';
import { LivePens } from '../pens/live';
import { MAX_PENS, Pen, type PenChoice } from '../pens/pen';
import { PenSet } from '../pens/penset';
import { TreeView } from '../tags/treeview';
import { View } from '../time/view';
import { askForDates } from '../ui/daterange';
import { el } from '../ui/dom';
import { text } from '../ui/strings';
import { currentTheme, initTheme, penColor } from '../ui/theme';
import { Analysis } from './analysis';
import { acceptTags } from './droptarget';
import { exposeForTests } from './exposed';
import { formatHash, parseHash } from './hash';
import { type Action, listenForKeys } from './keys';
import { showTrendKeys } from './keyslist';
import { openExportMenu, openScalesMenu } from './menus';
import { Overview } from './overview';
import { Painter } from './painter';
import { askForStyle } from './penstyle';
import { Problems } from './problems';
import { Readout } from './readout';
import { Toolbar } from './toolbar';
// last: it overrides what the parts say for large screens
import './page.css';

const READOUT_MS = 200;
/** While the server has no tags yet. */
const EMPTY_RETRY_MS = 2000;
/** The demo and real plants get new tags now and then. */
const TAGS_REFRESH_MS = 60_000;
/** History that is held is fetched anew so long after samples have come that belong into it. */
const LATE_MS = 1000;
const LAYOUTS: readonly Layout[] = ['overlay', 'units', 'pens'];

export class App {
  #clock = new Clock();
  #tags = new Map<string, Tag>();
  /** of the hash, until the tags are known */
  #wanted: readonly PenChoice[] | null;
  #scaling: Scaling;
  #layout: Layout;
  /** where the mouse is */
  #cursor: number | null = null;
  #readAt = -Infinity;
  #chosenAtFirst = false;
  #hashTimer: ReturnType<typeof setTimeout> | undefined;
  #lateTimer: ReturnType<typeof setTimeout> | undefined;

  #view: View;
  #pens: PenSet;
  #stream: Stream;
  #live: LivePens;
  #history: History;
  #analysis: Analysis;
  #chart: Chart;
  #painter: Painter;
  #overview: Overview;
  #tree: TreeView;
  #readout: Readout;
  #toolbar: Toolbar;
  #problems: Problems;
  #busy = el('div', { class: 'busy', hidden: true, 'aria-hidden': 'true' });

  constructor(root: HTMLElement) {
    const hash = parseHash(location.hash);
    this.#wanted = hash.pens;
    this.#scaling = hash.scaling;
    this.#layout = hash.layout;
    observeDate((us) => this.#clock.serverDate(us));
    const now = (): number => this.#clock.now();
    const historyFailed = (error: unknown, again: () => void): void => this.#problems.failed(error, 'history', again);

    this.#problems = new Problems(() => {
      if (this.#tags.size === 0) void this.#loadTags();
      this.#stream.retryNow();
    });
    this.#view = new View(now, { onHold: () => this.#held(), onLive: () => this.#wentLive(), onSpan: () => this.#spanChanged() }, hash.span);
    this.#pens = new PenSet({
      onAdd: (pen) => this.#live.subscribe(pen),
      onRemove: (pen) => {
        this.#live.unsubscribe(pen);
        this.#chart.highlight(null);
      },
      onChange: () => this.#pensChanged(),
    });
    this.#stream = new Stream({
      connect: () => new DecodedSocket(address('v1/stream?compression=zstd-dict', 'ws'), subprotocols(token())),
      onState: (state) => this.#connection(state),
      onProblem: (what) => this.#problems.tell(what, 'connection'),
      diagnose: () => this.#diagnose(),
    });
    this.#live = new LivePens(this.#stream, this.#clock, {
      span: () => this.#view.span,
      width: () => this.#chart.width,
      onSamples: (pen, columns, edge) => this.#samples(pen, columns, edge),
      onDescribed: () => this.#pensChanged(),
      onLive: () => this.#painter.dirty(),
      onFailed: historyFailed,
    });
    this.#history = new History({
      onBusy: (busy) => (this.#busy.hidden = !busy),
      onArrived: () => {
        this.#problems.tell(null, 'history');
        this.#painter.dirty();
      },
      onFailed: historyFailed,
    });
    this.#tree = new TreeView({
      onToggle: (tag) => this.#toggle([tag]),
      onBranch: (tags) => this.#toggle(tags),
      colorOf: (tag) => {
        const pen = this.#pens.of(tag);
        return pen === undefined ? null : penColor(currentTheme(), pen.color);
      },
    });
    this.#readout = new Readout({
      onRemove: (pen) => {
        this.#pens.remove([pen]);
        this.#problems.tell(null, 'pens');
      },
      onStyle: (pen, anchor) =>
        askForStyle(pen, anchor, (style) => {
          pen.style = style;
          this.#pensChanged();
        }),
      onHighlight: (pen) => {
        this.#chart.highlight(pen);
        this.#painter.dirty();
      },
    });
    this.#toolbar = new Toolbar({
      onPreset: (span) => this.#view.preset(span),
      onShift: (part) => this.#view.pan(part),
      onZoom: (factor) => this.#view.zoom(factor),
      onBack: () => this.#view.back(),
      onForward: () => this.#view.forward(),
      onPause: () => this.#view.hold(this.#view.window),
      onLive: () => this.#view.goLive(),
      onMenu: () => document.body.classList.toggle(matchMedia('(max-width: 760px)').matches ? 'menu-open' : 'menu-closed'),
      onKeys: showTrendKeys,
      onSkip: () => chartHost.focus(),
      onCursors: () => this.#analysis.toggleCursors(),
      onStatistics: () => this.#analysis.toggleStatistics(),
      onDates: (anchor) => askForDates(anchor, this.#view.window, (window) => this.#view.move(window)),
      onExpression: (anchor) => this.#expression(anchor),
      onScales: (anchor) => this.#openScales(anchor),
      onCompare: (anchor) => this.#analysis.openCompare(anchor),
      onExport: (anchor) => this.#openExport(anchor),
    });
    const chartHost = el('div', { class: 'chart', tabindex: 0, role: 'group', 'aria-label': text.chart, 'aria-describedby': 'chart-summary' });
    const byHand = (): void => this.#painter.gesture();
    this.#chart = new Chart(chartHost, {
      onWindow: (window) => {
        byHand();
        this.#view.move(window);
      },
      onBack: () => this.#view.back(),
      onCursor: (ts) => {
        this.#cursor = ts;
        this.#readAt = -Infinity;
      },
      onCursorMoved: (name, ts) => this.#analysis.moveCursor(name, ts),
    });
    this.#overview = new Overview(now, {
      onWindow: (window) => {
        byHand();
        this.#view.move(window);
      },
      onFailed: historyFailed,
    });
    this.#painter = new Painter({
      window: () => this.#view.window,
      live: () => this.#view.held === null,
      width: () => this.#chart.width,
      draw: (window) => {
        this.#chart.draw(window, this.#view.holdsTo);
        this.#overview.show(window);
        this.#showState();
      },
      onTurn: (at) => this.#turn(at),
    });
    acceptTags(chartHost, (paths) => this.#add(paths.flatMap((path) => this.#tags.get(path) ?? [])));
    root.append(
      this.#toolbar.element,
      el(
        'div',
        { class: 'body' },
        el('aside', { class: 'side', 'aria-label': text.tags }, this.#tree.element),
        el('main', { class: 'main' }, this.#problems.element, el('div', { class: 'chart-box' }, chartHost, this.#busy), this.#overview.element, this.#readout.element),
      ),
    );
    const target = { view: this.#view, pens: this.#pens, chart: this.#chart, problems: this.#problems, now };
    this.#analysis = new Analysis({ ...target, onChange: () => this.#analysed() }, hash);
    if (hash.window !== null) this.#view.hold(hash.window);
    initTheme(() => this.#restyle());
    this.#listen();
    this.#painter.start();
    void this.#loadTags().then(() => this.#stream.start());
    exposeForTests({ stream: this.#stream, view: this.#view, chart: this.#chart, pens: this.#pens });
  }

  #listen(): void {
    window.addEventListener('hashchange', () => this.#hashChanged());
    window.addEventListener('online', () => this.#stream.retryNow());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#stream.retryNow();
    });
    listenForKeys((action) => this.#act(action));
    document.addEventListener(
      'pointerdown',
      (event) => {
        // beside the drawer of a small screen: closes it, and does nothing else
        if (!document.body.classList.contains('menu-open') || (event.target as Element).closest('.side, .menu')) return;
        document.body.classList.remove('menu-open');
        event.stopPropagation();
      },
      true,
    );
    setInterval(() => this.#toolbar.setState(this.#stream.state, this.#view.held !== null), 250);
    setInterval(() => document.visibilityState === 'visible' && this.#stream.state.name === 'live' && void this.#loadTags(), TAGS_REFRESH_MS);
  }

  // --- window

  #held(): void {
    this.#fetchHistory();
    this.#viewChanged();
  }

  #wentLive(): void {
    this.#history.cancel();
    for (const pen of this.#pens.all) pen.history = null;
    this.#viewChanged();
  }

  #spanChanged(): void {
    // the backfill's resolution is that of its span
    this.#live.restart();
    this.#viewChanged();
  }

  #viewChanged(): void {
    this.#painter.dirty();
    this.#analysis.expire();
    this.#saveHash();
    this.#showState();
  }

  #analysed(): void {
    this.#readAt = -Infinity;
    this.#painter.dirty();
    this.#saveHash();
    this.#showState();
  }

  #fetchHistory(): void {
    if (this.#view.held !== null) this.#history.fetch(this.#pens.all, this.#view.held, this.#chart.width);
  }

  #samples(pen: Pen, columns: Columns, edge: boolean): void {
    const { held } = this.#view;
    if (held !== null && columns.ts.some((ts) => ts >= held.from && ts < held.to)) {
      // late or corrected: the window shows what the database holds
      clearTimeout(this.#lateTimer);
      this.#lateTimer = setTimeout(() => this.#fetchHistory(), LATE_MS);
    }
    if (pen.shown !== pen.live) return;
    if (edge) this.#painter.lazy();
    else this.#painter.dirty();
  }

  // --- pens

  /** Add tags, or remove them where all of them are pens. */
  #toggle(tags: readonly Tag[]): void {
    const pens = tags.flatMap((tag) => this.#pens.of(tag) ?? []);
    if (pens.length === tags.length) this.#pens.remove(pens);
    else this.#add(tags);
  }

  #add(tags: readonly Tag[]): void {
    const left = this.#pens.add(tags);
    const told = tags.length === 1 ? text.tooManyPens(MAX_PENS) : text.notAdded(MAX_PENS, left, tags.length);
    this.#problems.tell(left > 0 ? told : null, 'pens');
    this.#fetchHistory();
  }

  #expression(anchor: HTMLElement): void {
    const tags = this.#pens.all.filter((pen) => pen.expression === null && pen.tag.kind !== 'text').map((pen) => pen.tag);
    askForExpression(anchor, tags, (what) => this.#addExpression(what));
  }

  /** Add a calculated pen, or say what is wrong with it. */
  async #addExpression(what: string): Promise<string | null> {
    if (this.#pens.full) return text.tooManyPens(MAX_PENS);
    try {
      const fault = await faultOf(what);
      if (fault !== null) return fault;
    } catch (error) {
      if (error instanceof Problem) return error.message;
      if (error instanceof TypeError) return text.unreachable;
      throw error;
    }
    if (!this.#pens.addCalculated(what)) return text.penExists(what);
    this.#fetchHistory();
    return null;
  }

  #pensChanged(): void {
    this.#chart.setPens(this.#pens.all, this.#scaling, this.#layout);
    this.#readout.setPens(this.#pens.all);
    this.#overview.setPens(this.#pens.all);
    this.#tree.refresh();
    this.#readAt = -Infinity;
    this.#analysis.expire();
    this.#painter.dirty();
    this.#saveHash();
  }

  #restyle(): void {
    this.#chart.restyle();
    this.#pensChanged();
  }

  // --- scales, export

  #openScales(anchor: HTMLElement): void {
    const state = { scaling: this.#scaling, layout: this.#layout };
    openScalesMenu(anchor, state, ({ scaling, layout }) => {
      this.#scaling = scaling;
      this.#layout = layout;
      this.#pensChanged();
    });
  }

  #openExport(anchor: HTMLElement): void {
    openExportMenu(anchor, { pens: this.#pens.all, window: this.#view.window, canvas: this.#chart.canvas }, (error) => this.#problems.failed(error, 'history', () => this.#openExport(anchor)));
  }

  // --- tags and connection

  async #loadTags(): Promise<void> {
    try {
      const tags = await getTags();
      this.#tags = new Map(tags.map((tag) => [tag.path, tag]));
      if (!this.#chosenAtFirst && tags.length > 0) {
        const chosen = this.#wanted ?? (await firstPens(tags, this.#clock.now()));
        this.#chosenAtFirst = true;
        this.#choose(chosen);
      }
      const plain = this.#pens.all.filter((pen) => pen.expression === null);
      for (const pen of plain) pen.tag = this.#tags.get(pen.path) ?? pen.tag;
      this.#tree.setTags(tags, plain.map((pen) => pen.path));
      if (tags.length === 0) setTimeout(() => void this.#loadTags(), EMPTY_RETRY_MS);
    } catch (error) {
      this.#problems.failed(error, 'connection', () => void this.#loadTags());
    }
  }

  #choose(choices: readonly PenChoice[]): void {
    const unknown = this.#pens.choose(choices, this.#tags);
    if (unknown.length > 0) this.#problems.tell(text.noSuchTag(unknown.join(', ')), 'pens');
    // a page that was opened on a window knows the server's time only now
    if (this.#view.held !== null) this.#view.hold(this.#view.held);
  }

  #connection(state: ConnectionState): void {
    this.#toolbar.setState(state, this.#view.held !== null);
    document.body.dataset['connection'] = state.name;
    if (state.name !== 'live') return;
    // what changed meanwhile
    void this.#loadTags();
    this.#fetchHistory();
  }

  /** Why the WebSocket does not open: a browser does not tell, an HTTP request does. */
  async #diagnose(): Promise<string | null> {
    try {
      await get('v1/tags?match=historian-trend-page');
      return null;
    } catch (error) {
      if (!(error instanceof Problem)) return text.unreachable;
      this.#problems.failed(error, 'connection', () => this.#stream.retryNow());
      return error.message;
    }
  }

  // --- address, keys, drawing

  /** Once the hand rests: browsers refuse more than some hundred changes of the address in half a minute. */
  #saveHash(): void {
    clearTimeout(this.#hashTimer);
    this.#hashTimer = setTimeout(() => this.#writeHash(), 150);
  }

  #writeHash(): void {
    if (!this.#chosenAtFirst) return;
    const { span, held: window } = this.#view;
    const pens = this.#pens.all.map((pen) => pen.choice);
    const hash = formatHash({ pens, span, window, scaling: this.#scaling, layout: this.#layout, cursors: this.#analysis.cursors, compare: this.#analysis.compare });
    if (hash !== location.hash) history.replaceState(null, '', hash);
  }

  /** By hand, or by a link. */
  #hashChanged(): void {
    const hash = parseHash(location.hash);
    this.#scaling = hash.scaling;
    this.#layout = hash.layout;
    this.#analysis.set(hash);
    if (hash.window === null) this.#view.setSpan(hash.span);
    if (hash.pens !== null) {
      this.#wanted = hash.pens;
      this.#choose(hash.pens);
    }
    if (hash.window !== null) this.#view.hold(hash.window);
    else this.#view.goLive();
    this.#pensChanged();
  }

  /** Whether there was something to do. */
  #act(action: Action | number): boolean {
    const view = this.#view;
    if (typeof action === 'number') view.preset(action);
    else if (action === 'close') {
      document.body.classList.remove('menu-open');
      if (this.#analysis.cursors !== null) this.#analysis.setCursors(null);
    } else if (action === 'cursorA' || action === 'cursorB') {
      this.#analysis.moveCursor(action === 'cursorA' ? 'a' : 'b', this.#cursor ?? (view.window.from + view.window.to) / 2);
    } else if (action === 'layout') {
      this.#layout = LAYOUTS[(LAYOUTS.indexOf(this.#layout) + 1) % LAYOUTS.length]!;
      this.#pensChanged();
    } else {
      const does: Record<Exclude<Action, 'close' | 'cursorA' | 'cursorB' | 'layout'>, () => void> = {
        pause: () => view.pauseOrLive(),
        live: () => view.goLive(),
        earlier: () => view.pan(-0.1),
        later: () => view.pan(0.1),
        zoomIn: () => view.zoom(1 / 1.5),
        zoomOut: () => view.zoom(1.5),
        back: () => view.back(),
        forward: () => view.forward(),
        dates: () => this.#toolbar.dates.click(),
        expression: () => this.#expression(this.#toolbar.expression),
        search: () => this.#tree.search.focus(),
        scales: () => this.#openScales(this.#toolbar.scales),
        cursors: () => this.#analysis.toggleCursors(),
        statistics: () => this.#analysis.toggleStatistics(),
        compare: () => this.#analysis.openCompare(this.#toolbar.compare),
        export: () => this.#openExport(this.#toolbar.export),
        read: () => this.#readout.read(),
        help: showTrendKeys,
      };
      does[action]();
    }
    return true;
  }

  #showState(): void {
    const paused = this.#view.held !== null;
    const { cursors, statistics, compare } = this.#analysis;
    this.#toolbar.update({ shown: this.#view.window, span: this.#view.span, paused, cursors: cursors !== null, statistics: statistics !== null, compare });
    this.#toolbar.setState(this.#stream.state, paused);
    document.body.classList.toggle('paused', paused);
  }

  #turn(at: number): void {
    this.#analysis.turn(at);
    if (at - this.#readAt < READOUT_MS) return;
    this.#readAt = at;
    const { cursors, statistics } = this.#analysis;
    this.#readout.update({ cursor: this.#cursor, window: this.#view.window, live: this.#view.held === null, cursors, statistics });
  }
}
