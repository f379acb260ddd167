/** The trend page: wires tags, pens, stream, ranges and chart together. Times are µs since 1970. */
import { isAway, observeDate, observeRefused } from '../data/api';
import { Clock } from '../data/clock';
import type { Tag } from '../data/protocol';
import type { ConnectionState, Stream } from '../data/stream';
import { offerNewer } from '../offline/newer';
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
import { Offline } from './offline';
import { Opening } from './opening';
import { PenEdits } from './penedits';
import { askForStyle } from './penstyle';
import { Picture } from './picture';
import { Problems } from './problems';
import { Readout } from './readout';
import { Samples } from './samples';
import { Status } from './status';
import { Toolbar } from './toolbar';
// last: it overrides what the parts say for large screens
import './page.css';

export class App {
  #clock = new Clock();
  #scales: Scales;

  #view: View;
  #pens: PenSet;
  #edits: PenEdits;
  #address: AddressBar;
  #catalogue: Catalogue;
  #offline: Offline;
  #stream: Stream;
  #samples: Samples;
  #analysis: Analysis;
  #picture: Picture;
  #tree: TreeView;
  #readout: Readout;
  #toolbar: Toolbar;
  #status: Status;
  #opening: Opening;
  #problems: Problems;
  #busy = el('div', { class: 'busy', hidden: true, 'aria-hidden': 'true' });

  constructor(root: HTMLElement) {
    const hash = parseHash(location.hash);
    this.#scales = hash;
    observeDate((us) => this.#clock.serverDate(us));
    observeRefused(() => this.#offline.refused());
    const now = (): number => this.#clock.now();
    const historyFailed = (error: unknown, again: () => void): void => {
      // what is kept is shown without it, and asked for again once the server is back
      if (!this.#offline.old || !isAway(error)) this.#problems.failed(error, 'history', again);
    };

    this.#problems = new Problems(() => {
      if (this.#catalogue.tags.size === 0) void this.#catalogue.load();
      this.#stream.retryNow();
    }, () => this.#offline.old);
    this.#view = new View(() => this.#offline.asOf.now(), {
      onHold: () => this.#viewChanged(() => this.#samples.fetchHistory()),
      onLive: () => this.#viewChanged(() => this.#samples.dropHistory()),
      onSpan: () => this.#viewChanged(() => this.#samples.restart()),
    }, hash.span);
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
      onFailed: (error, again) => void this.#opening.failed(error, again),
    });
    this.#offline = new Offline({ clock: this.#clock, stream: () => this.#stream, pens: this.#pens, catalogue: this.#catalogue, state: () => this.#state() });
    this.#stream = connectStream(this.#problems, () => this.#offline.old, (state) => this.#connection(state));
    const sources = { stream: this.#stream, clock: this.#clock, knownTo: () => this.#offline.asOf.now(), view: this.#view, pens: this.#pens, width: () => this.#picture.chart.width };
    this.#samples = new Samples(sources, {
      onSamples: (edge) => {
        if (edge) this.#picture.painter.lazy();
        else this.#picture.painter.dirty();
        this.#offline.changed();
      },
      onHistory: () => {
        this.#problems.tell(null, 'history');
        this.#picture.painter.dirty();
        this.#offline.changed();
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
    const [view, pens, stream, offline, problems] = [this.#view, this.#pens, this.#stream, this.#offline, this.#problems];
    this.#status = new Status({ view, pens, stream, offline, analysis: () => this.#analysis, toolbar: this.#toolbar, readout: this.#readout });
    this.#opening = new Opening({
      ...{ view, pens, stream, offline, problems, clock: this.#clock, catalogue: this.#catalogue, edits: this.#edits },
      tagsCame: (tags) => this.#tagsCame(tags),
      addressChanged: (changed) => this.#addressChanged(changed),
      redraw: () => this.#pensChanged(),
    });
    this.#picture = new Picture(this.#view, now, {
      onCursor: (ts) => (this.#status.cursor = ts),
      onCursorMoved: (name, ts) => this.#analysis.moveCursor(name, ts),
      onDrawn: () => this.#status.show(),
      onTurn: (at) => this.#status.turn(at),
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
    const target = { view, pens, chart: this.#picture.chart, problems, now };
    this.#analysis = new Analysis({ ...target, onChange: () => this.#analysed() }, hash);
    if (hash.window !== null) this.#view.hold(hash.window);
    initTheme(() => this.#restyle());
    this.#listen();
    this.#picture.painter.start();
    void this.#opening.start();
    offerNewer();
    exposeForTests({ stream, view, chart: this.#picture.chart, pens });
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
      cursor: () => this.#status.cursor,
    });
    setInterval(() => this.#status.showConnection(), 250);
    this.#catalogue.refresh(() => document.visibilityState === 'visible' && this.#stream.state.name === 'live');
  }

  // --- window

  #viewChanged(fetch: () => void): void {
    fetch();
    this.#picture.painter.dirty();
    this.#analysis.expire();
    this.#address.save();
    this.#status.show();
  }

  #analysed(): void {
    this.#status.expire();
    this.#picture.painter.dirty();
    this.#address.save();
    this.#status.show();
  }

  // --- pens

  #pensChanged(): void {
    this.#picture.setPens(this.#pens, this.#scales);
    this.#readout.setPens(this.#pens.all);
    this.#tree.refresh();
    this.#status.expire();
    this.#analysis.expire();
    this.#address.save();
    this.#offline.changed();
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
    openExportMenu(anchor, { away: this.#offline.old, pens: this.#pens.all, window: this.#view.window, canvas: this.#picture.chart.canvas }, (error) => this.#problems.failed(error, 'history', () => this.#openExport(anchor)));
  }

  // --- tags and connection

  async #tagsCame(tags: readonly Tag[]): Promise<void> {
    await this.#edits.begin(tags);
    const plain = this.#pens.all.filter((pen) => pen.expression === null);
    for (const pen of plain) pen.tag = this.#catalogue.tags.get(pen.path) ?? pen.tag;
    this.#tree.setTags(tags, plain.map((pen) => pen.path));
  }

  #connection(state: ConnectionState): void {
    this.#offline.connection(state);
    this.#status.showConnection();
    this.#picture.painter.dirty();
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
}
