/** The trend page: wires tags, pens, stream, ranges and chart together. Times are µs since 1970. */
import { observeDate } from '../data/api';
import { Clock } from '../data/clock';
import type { Tag } from '../data/protocol';
import type { ConnectionState, Stream } from '../data/stream';
import { PenSet } from '../pens/penset';
import { TreeView } from '../tags/treeview';
import { View } from '../time/view';
import { askForDates } from '../ui/daterange';
import { el } from '../ui/dom';
import { currentTheme, initTheme, penColor } from '../ui/theme';
import { AddressBar } from './addressbar';
import { Analysis } from './analysis';
import { Catalogue } from './catalogue';
import { commandByKeys } from './commands';
import { connectStream } from './connect';
import { acceptTags } from './droptarget';
import { exposeForTests } from './exposed';
import { type PageState, parseHash } from './hash';
import { showTrendKeys } from './keyslist';
import { placeParts, toggleDrawer } from './layout';
import { openExportMenu, openScalesMenu, type Scales } from './menus';
import { PenEdits } from './penedits';
import { askForStyle } from './penstyle';
import { Picture } from './picture';
import { Problems } from './problems';
import { Readout } from './readout';
import { Samples } from './samples';
import { Toolbar } from './toolbar';
// last: it overrides what the parts say for large screens
import './page.css';

const READOUT_MS = 200;

export class App {
  #clock = new Clock();
  #scales: Scales;
  /** where the mouse is */
  #cursor: number | null = null;
  #readAt = -Infinity;

  #view: View;
  #pens: PenSet;
  #edits: PenEdits;
  #address: AddressBar;
  #catalogue: Catalogue;
  #stream: Stream;
  #samples: Samples;
  #analysis: Analysis;
  #picture: Picture;
  #tree: TreeView;
  #readout: Readout;
  #toolbar: Toolbar;
  #problems: Problems;
  #busy = el('div', { class: 'busy', hidden: true, 'aria-hidden': 'true' });

  constructor(root: HTMLElement) {
    const hash = parseHash(location.hash);
    this.#scales = hash;
    observeDate((us) => this.#clock.serverDate(us));
    const now = (): number => this.#clock.now();
    const historyFailed = (error: unknown, again: () => void): void => this.#problems.failed(error, 'history', again);

    this.#problems = new Problems(() => {
      if (this.#catalogue.tags.size === 0) void this.#catalogue.load();
      this.#stream.retryNow();
    });
    this.#view = new View(now, { onHold: () => this.#held(), onLive: () => this.#wentLive(), onSpan: () => this.#spanChanged() }, hash.span);
    this.#pens = new PenSet({
      onAdd: (pen) => this.#samples.subscribe(pen),
      onRemove: (pen) => {
        this.#samples.unsubscribe(pen);
        this.#picture.chart.highlight(null);
      },
      onChange: () => this.#pensChanged(),
    });
    this.#edits = new PenEdits(
      {
        pens: this.#pens,
        problems: this.#problems,
        tags: () => this.#catalogue.tags,
        now,
        // a page that was opened on a window knows the server's time only now
        onChosen: () => this.#view.held !== null && this.#view.hold(this.#view.held),
        onAdded: () => this.#samples.fetchHistory(),
      },
      hash.pens,
    );
    this.#address = new AddressBar(() => (this.#edits.chosen ? this.#state() : null), (changed) => this.#addressChanged(changed));
    this.#catalogue = new Catalogue({
      onTags: (tags) => this.#tagsCame(tags),
      onFailed: (error, again) => this.#problems.failed(error, 'connection', again),
    });
    this.#stream = connectStream(this.#problems, (state) => this.#connection(state));
    const sources = { stream: this.#stream, clock: this.#clock, view: this.#view, pens: this.#pens, width: () => this.#picture.chart.width };
    this.#samples = new Samples(sources, {
      onSamples: (edge) => (edge ? this.#picture.painter.lazy() : this.#picture.painter.dirty()),
      onHistory: () => {
        this.#problems.tell(null, 'history');
        this.#picture.painter.dirty();
      },
      onBusy: (busy) => (this.#busy.hidden = !busy),
      onDescribed: () => this.#pensChanged(),
      onFailed: historyFailed,
    });
    this.#tree = new TreeView({
      onToggle: (tag) => this.#edits.toggle([tag]),
      onBranch: (tags) => this.#edits.toggle(tags),
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
        this.#picture.chart.highlight(pen);
        this.#picture.painter.dirty();
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
      onMenu: toggleDrawer,
      onKeys: showTrendKeys,
      onSkip: () => this.#picture.host.focus(),
      onCursors: () => this.#analysis.toggleCursors(),
      onStatistics: () => this.#analysis.toggleStatistics(),
      onDates: (anchor) => askForDates(anchor, this.#view.window, (window) => this.#view.move(window)),
      onExpression: (anchor) => this.#edits.askForExpression(anchor),
      onScales: (anchor) => openScalesMenu(anchor, this.#scales, (chosen) => this.#setScales(chosen)),
      onCompare: (anchor) => this.#analysis.openCompare(anchor),
      onExport: (anchor) => this.#openExport(anchor),
    });
    this.#picture = new Picture(this.#view, now, {
      onCursor: (ts) => {
        this.#cursor = ts;
        this.#readAt = -Infinity;
      },
      onCursorMoved: (name, ts) => this.#analysis.moveCursor(name, ts),
      onDrawn: () => this.#showState(),
      onTurn: (at) => this.#turn(at),
      onFailed: historyFailed,
    });
    acceptTags(this.#picture.host, (paths) => this.#edits.add(paths.flatMap((path) => this.#catalogue.tags.get(path) ?? [])));
    placeParts(root, {
      toolbar: this.#toolbar.element,
      tree: this.#tree.element,
      problems: this.#problems.element,
      chart: this.#picture.host,
      busy: this.#busy,
      overview: this.#picture.overview.element,
      readout: this.#readout.element,
    });
    const target = { view: this.#view, pens: this.#pens, chart: this.#picture.chart, problems: this.#problems, now };
    this.#analysis = new Analysis({ ...target, onChange: () => this.#analysed() }, hash);
    if (hash.window !== null) this.#view.hold(hash.window);
    initTheme(() => this.#restyle());
    this.#listen();
    this.#picture.painter.start();
    void this.#catalogue.load().then(() => this.#stream.start());
    exposeForTests({ stream: this.#stream, view: this.#view, chart: this.#picture.chart, pens: this.#pens });
  }

  #listen(): void {
    commandByKeys({
      view: this.#view,
      analysis: this.#analysis,
      toolbar: this.#toolbar,
      tree: this.#tree,
      readout: this.#readout,
      scales: () => this.#scales,
      setScales: (scales) => this.#setScales(scales),
      cursor: () => this.#cursor,
    });
    setInterval(() => this.#toolbar.setState(this.#stream.state, this.#view.held !== null), 250);
    this.#catalogue.refresh(() => document.visibilityState === 'visible' && this.#stream.state.name === 'live');
  }

  // --- window

  #held(): void {
    this.#samples.fetchHistory();
    this.#viewChanged();
  }

  #wentLive(): void {
    this.#samples.dropHistory();
    this.#viewChanged();
  }

  #spanChanged(): void {
    this.#samples.restart();
    this.#viewChanged();
  }

  #viewChanged(): void {
    this.#picture.painter.dirty();
    this.#analysis.expire();
    this.#address.save();
    this.#showState();
  }

  #analysed(): void {
    this.#readAt = -Infinity;
    this.#picture.painter.dirty();
    this.#address.save();
    this.#showState();
  }

  // --- pens

  #pensChanged(): void {
    this.#picture.setPens(this.#pens, this.#scales);
    this.#readout.setPens(this.#pens.all);
    this.#tree.refresh();
    this.#readAt = -Infinity;
    this.#analysis.expire();
    this.#address.save();
  }

  #restyle(): void {
    this.#picture.chart.restyle();
    this.#pensChanged();
  }

  // --- scales, export

  #setScales({ scaling, layout }: Scales): void {
    this.#scales = { scaling, layout };
    this.#pensChanged();
  }

  #openExport(anchor: HTMLElement): void {
    openExportMenu(anchor, { pens: this.#pens.all, window: this.#view.window, canvas: this.#picture.chart.canvas }, (error) => this.#problems.failed(error, 'history', () => this.#openExport(anchor)));
  }

  // --- tags and connection

  async #tagsCame(tags: readonly Tag[]): Promise<void> {
    await this.#edits.begin(tags);
    const plain = this.#pens.all.filter((pen) => pen.expression === null);
    for (const pen of plain) pen.tag = this.#catalogue.tags.get(pen.path) ?? pen.tag;
    this.#tree.setTags(tags, plain.map((pen) => pen.path));
  }

  #connection(state: ConnectionState): void {
    this.#toolbar.setState(state, this.#view.held !== null);
    document.body.dataset['connection'] = state.name;
    if (state.name !== 'live') return;
    // what changed meanwhile
    void this.#catalogue.load();
    this.#samples.fetchHistory();
  }

  // --- address, drawing

  #state(): PageState {
    const { span, held: window } = this.#view;
    const { scaling, layout } = this.#scales;
    return { pens: this.#pens.all.map((pen) => pen.choice), span, window, scaling, layout, cursors: this.#analysis.cursors, compare: this.#analysis.compare };
  }

  #addressChanged(hash: ReturnType<typeof parseHash>): void {
    this.#scales = hash;
    this.#analysis.set(hash);
    if (hash.window === null) this.#view.setSpan(hash.span);
    if (hash.pens !== null) this.#edits.choose(hash.pens);
    if (hash.window !== null) this.#view.hold(hash.window);
    else this.#view.goLive();
    this.#pensChanged();
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
