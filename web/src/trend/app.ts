/** The trend page: wires tags, pens, stream, ranges and chart together. Times are µs since 1970. */
import { address, get, getTags, observeDate, Problem, token } from '../data/api';
import { Chart, type Scaling } from '../chart/chart';
import { DecodedSocket } from '../data/decoder';
import { Clock } from '../data/clock';
import { askable, byUnit, liveliest, moving } from '../pens/defaults';
import { el, icon, setText } from '../ui/dom';
import { askForExpression, calculatedTag } from '../pens/expression';
import { formatHash, parseHash } from './hash';
import { MAX_PENS, Pen, type PenChoice } from '../pens/pen';
import { type Columns, ProtocolError, subprotocols, type Tag } from '../data/protocol';
import { askForDates } from '../ui/daterange';
import { byTag, Debounced, faultOf, fetchNewest, fetchRange } from '../data/range';
import { Readout } from './readout';
import { clampSpan, MINUTE, pointsFor, PRESETS, SECOND, shift, type Window, zoom } from '../time/spans';
import { GOOD, Store } from '../data/store';
import { type ConnectionState, Stream } from '../data/stream';
import { initTheme, toggleTheme, currentTheme, penColor } from '../ui/theme';
import { askForToken } from '../ui/token';
import { Toolbar } from './toolbar';
import { TreeView } from '../tags/treeview';
import { Views } from '../time/views';
// last: it overrides what the parts say for large screens
import './page.css';

const DEFAULT_PENS = 8;
/** the first pens are chosen among so many tags, by how they moved in the last two minutes */
const CANDIDATES = 40;
const LATELY = 2 * MINUTE;
const LATELY_MS = 3000;
/** Ten pictures a second follow any live data, and leave the rest of the machine alone. */
const FRAME_MS = 100;
/** While the hand moves the chart, it must follow. */
const GESTURE_FRAME_MS = 33;
const GESTURE_MS = 250;
/** New samples that change less than half a pixel of the chart wait so long at the most. */
const LAZY_FRAME_MS = 250;
const READOUT_MS = 150;
/** While the server has no tags yet. */
const EMPTY_RETRY_MS = 2000;
/** The demo and real plants get new tags now and then. */
const TAGS_REFRESH_MS = 60_000;
/** What is fetched beside the window, as a part of it: for moving a little without waiting. */
const FETCH_MARGIN = 0.5;

declare global {
  interface Window {
    /** For tests, and for the curious at the console. */
    historian: {
      pens: () => { path: string; points: number; lastTs: number | null; lastValue: number | string | null }[];
      state: () => string;
      /** data frames that came over the WebSocket */
      frames: () => number;
      /** µs */
      window: () => { from: number; to: number };
    };
  }
}

/** What a problem on the screen is about. */
type Topic = 'connection' | 'history' | 'pens';

export class App {
  #clock = new Clock();
  #tags = new Map<string, Tag>();
  #pens: Pen[] = [];
  /** of the hash, until the tags are known */
  #wanted: readonly PenChoice[] | null;
  #span: number;
  /** set while paused */
  #held: Window | null;
  /** what was now when it was last held: newest states hold until then */
  #heldAt = 0;
  #scaling: Scaling;
  #cursor: number | null = null;
  /** must be drawn again; `lazy`: for new samples at the edge alone */
  #dirty = true;
  #lazy = false;
  #gestureAt = -Infinity;
  #drawn = { at: -Infinity, to: 0 };
  #readAt = -Infinity;
  #fetch = new Debounced(120);
  #restart: ReturnType<typeof setTimeout> | undefined;
  #views = new Views();
  #chosenAtFirst = false;
  #topic: Topic = 'connection';
  #hashTimer: ReturnType<typeof setTimeout> | undefined;

  #stream: Stream;
  #chart: Chart;
  #tree: TreeView;
  #readout: Readout;
  #toolbar: Toolbar;
  #problem = el('div', { class: 'problem', role: 'alert', hidden: true });
  #problemText = el('span');
  #busy = el('div', { class: 'busy', hidden: true, 'aria-hidden': 'true' });

  constructor(root: HTMLElement) {
    const hash = parseHash(location.hash);
    this.#wanted = hash.pens;
    this.#span = hash.span;
    this.#held = hash.window;
    this.#scaling = hash.scaling;

    this.#stream = new Stream({
      connect: () => {
        const url = address('v1/stream?compression=zstd-dict', 'ws');
        return new DecodedSocket(url, subprotocols(token()));
      },
      onState: (state) => this.#connection(state),
      onProblem: (text) => this.#tell(text, 'connection'),
      diagnose: () => this.#diagnose(),
    });
    observeDate((us) => this.#clock.serverDate(us));

    this.#tree = new TreeView({
      onToggle: (tag) => this.#toggle(tag),
      onBranch: (tags) => this.#toggleBranch(tags),
      colorOf: (tag) => {
        const pen = this.#pens.find((p) => p.isOf(tagChoice(tag)));
        return pen === undefined ? null : penColor(currentTheme(), pen.color);
      },
    });
    this.#readout = new Readout({
      onRemove: (pen) => this.#remove(pen),
      onColor: (pen, color) => {
        pen.color = color;
        this.#pensChanged();
      },
      onHighlight: (pen) => {
        this.#chart.highlight(pen);
        this.#dirty = true;
      },
    });
    this.#toolbar = new Toolbar({
      onPreset: (span) => this.#preset(span),
      onShift: (part) => this.#move(shift(this.#window(), part)),
      onZoom: (factor) => this.#zoomAtCentre(factor),
      onPause: () => this.#hold(this.#window()),
      onLive: () => this.#goLive(),
      onScaling: (scaling) => this.#setScaling(scaling),
      onTheme: () => {
        toggleTheme();
        this.#restyle();
      },
      onMenu: () => this.#menu(),
      onDates: (anchor) => this.#dates(anchor),
      onExpression: (anchor) => this.#expression(anchor),
    });
    const chartHost = el('div', { class: 'chart', role: 'img', 'aria-label': 'Trend chart. Drag to move, wheel to zoom, shift and drag to zoom into a stretch, double click to go back.' });
    this.#problem.append(this.#problemText, el('button', { type: 'button', 'aria-label': 'Dismiss', onclick: () => (this.#problem.hidden = true) }, icon('close')));
    root.append(
      this.#toolbar.element,
      el(
        'div',
        { class: 'body' },
        el('aside', { class: 'side', 'aria-label': 'Tags' }, this.#tree.element),
        el('main', { class: 'main' }, this.#problem, el('div', { class: 'chart-box' }, chartHost, this.#busy), this.#readout.element),
      ),
    );
    this.#chart = new Chart(chartHost, {
      onWindow: (window) => {
        this.#gestureAt = performance.now();
        this.#move(window);
      },
      onBack: () => this.#back(),
      onCursor: (ts) => {
        this.#cursor = ts;
        this.#readAt = -Infinity;
      },
    });
    initTheme(() => this.#restyle());

    window.addEventListener('hashchange', () => this.#hashChanged());
    window.addEventListener('online', () => this.#stream.retryNow());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#stream.retryNow();
    });
    document.addEventListener('keydown', (event) => this.#key(event));
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
    setInterval(() => this.#toolbar.setState(this.#stream.state, this.#held !== null), 250);
    setInterval(() => document.visibilityState === 'visible' && this.#stream.state.name === 'live' && void this.#loadTags(), TAGS_REFRESH_MS);
    requestAnimationFrame((at) => this.#frame(at));
    void this.#loadTags().then(() => this.#stream.start());
    window.historian = {
      pens: () => this.#pens.map((pen) => this.#report(pen)),
      state: () => (this.#stream.state.name === 'live' && this.#held !== null ? 'paused' : this.#stream.state.name),
      frames: () => this.#stream.frames,
      window: () => this.#window(),
    };
  }

  // --- window

  #window(): Window {
    if (this.#held !== null) return this.#held;
    // a little air, so that the newest sample is not cut in half by the edge
    const to = this.#clock.now() + this.#span * 0.008;
    return { from: to - this.#span, to };
  }

  /** Hold the chart still on a window, whose history is fetched at the chart's resolution. */
  #hold(window: Window): void {
    this.#held = window;
    this.#heldAt = this.#clock.now();
    this.#dirty = true;
    this.#fetchHistory();
    this.#saveHash();
    this.#showState();
  }

  /** Hold another window than before, from which one may go back. */
  #move(window: Window): void {
    this.#views.leave({ window: this.#held, span: this.#span }, performance.now());
    this.#hold(window);
  }

  #back(): void {
    const view = this.#views.back();
    if (view === null) return;
    if (view.window !== null) this.#hold(view.window);
    else {
      this.#goLive();
      if (view.span !== this.#span) this.#setSpan(view.span);
    }
  }

  #dates(anchor: HTMLElement): void {
    askForDates(anchor, this.#window(), (window) => this.#move({ from: window.from, to: window.from + clampSpan(window.to - window.from) }));
  }

  #goLive(): void {
    if (this.#held === null) return;
    this.#held = null;
    this.#fetch.cancel();
    this.#busy.hidden = true;
    for (const pen of this.#pens) pen.history = null;
    this.#dirty = true;
    this.#saveHash();
    this.#showState();
  }

  #preset(span: number): void {
    this.#views.leave({ window: this.#held, span: this.#span }, performance.now());
    if (this.#held !== null) this.#hold({ from: this.#held.to - span, to: this.#held.to });
    this.#setSpan(span);
  }

  /** Of the live window. */
  #setSpan(span: number): void {
    const before = this.#span;
    this.#span = span;
    if (span !== before) {
      // the backfill's resolution is that of its span
      clearTimeout(this.#restart);
      this.#restart = setTimeout(() => this.#pens.forEach((pen) => this.#subscribe(pen)), 50);
    }
    this.#dirty = true;
    this.#saveHash();
    this.#showState();
  }

  #zoomAtCentre(factor: number): void {
    const window = this.#window();
    this.#move(zoom(window, (window.from + window.to) / 2, factor));
  }

  #fetchHistory(): void {
    const held = this.#held;
    if (held === null) return;
    if (this.#pens.length === 0) {
      this.#fetch.cancel();
      return;
    }
    this.#fetch.run(async (signal) => {
      const span = held.to - held.from;
      const wide = { from: held.from - span * FETCH_MARGIN, to: held.to + span * FETCH_MARGIN };
      const pens = [...this.#pens];
      this.#busy.hidden = false;
      try {
        const points = pointsFor(this.#chart.width * (1 + 2 * FETCH_MARGIN));
        const [plain, calculated] = [pens.filter((pen) => pen.expression === null), pens.filter((pen) => pen.expression !== null)];
        const expressions = calculated.map((pen) => pen.expression!);
        const fetched = byTag(await fetchRange(plain.map((pen) => pen.path), wide, points, signal, expressions));
        if (signal.aborted) return;
        for (const pen of pens) {
          const store = new Store();
          const columns = fetched.get(pen.expression === null ? pen.tag.tag_id : -1 - calculated.indexOf(pen));
          if (columns !== undefined) store.add(columns);
          pen.showHistory(store, held.from);
        }
        this.#tell(null, 'history');
        this.#dirty = true;
      } catch (error) {
        if (!signal.aborted) this.#failed(error, 'history', () => this.#fetchHistory());
      } finally {
        if (!signal.aborted) this.#busy.hidden = true;
      }
    });
  }

  // --- pens

  #toggle(tag: Tag): void {
    const pen = this.#pens.find((p) => p.isOf(tagChoice(tag)));
    if (pen !== undefined) this.#remove(pen);
    else if (this.#pens.length >= MAX_PENS) this.#tell(`${MAX_PENS} pens are the most; remove one first.`, 'pens');
    else {
      this.#add(tag, this.#freeColor());
      this.#pensChanged();
      if (this.#held !== null) this.#fetchHistory();
    }
  }

  /** Add the tags that are no pens yet, as many as there is room for; if all of them are, remove them. */
  #toggleBranch(tags: readonly Tag[]): void {
    const missing = tags.filter((tag) => !this.#pens.some((pen) => pen.isOf(tagChoice(tag))));
    if (missing.length === 0) {
      for (const tag of tags) this.#toggle(tag);
      return;
    }
    const added = missing.slice(0, MAX_PENS - this.#pens.length);
    for (const tag of added) this.#add(tag, this.#freeColor());
    this.#pensChanged();
    if (this.#held !== null) this.#fetchHistory();
    const left = missing.length - added.length;
    this.#tell(left > 0 ? `${MAX_PENS} pens are the most: ${left} of ${tags.length} tags were not added.` : null, 'pens');
  }

  #freeColor(): number {
    const taken = new Set(this.#pens.map((pen) => pen.color));
    for (let color = 0; color < MAX_PENS; color++) if (!taken.has(color)) return color;
    return 0;
  }

  #add(tag: Tag, color: number, expression: string | null = null): void {
    const pen = new Pen(tag, color, expression);
    this.#pens.push(pen);
    this.#subscribe(pen);
  }

  #expression(anchor: HTMLElement): void {
    const tags = this.#pens.filter((pen) => pen.expression === null && pen.tag.kind !== 'text').map((pen) => pen.tag);
    askForExpression(anchor, tags, (text) => this.#addExpression(text));
  }

  /** Add a calculated pen, or say what is wrong with it. */
  async #addExpression(text: string): Promise<string | null> {
    if (this.#pens.length >= MAX_PENS) return `${MAX_PENS} pens are the most; remove one first.`;
    try {
      const fault = await faultOf(text);
      if (fault !== null) return fault;
    } catch (error) {
      if (error instanceof Problem || error instanceof TypeError) return error instanceof Problem ? error.message : 'The server cannot be reached.';
      throw error;
    }
    const tag = calculatedTag(text);
    if (this.#pens.some((pen) => pen.path === tag.path)) return `There is a pen ${tag.path} already.`;
    this.#add(tag, this.#freeColor(), text);
    this.#pensChanged();
    if (this.#held !== null) this.#fetchHistory();
    return null;
  }

  #remove(pen: Pen): void {
    this.#stream.unsubscribe(pen.id);
    this.#pens = this.#pens.filter((p) => p !== pen);
    this.#tell(null, 'pens');
    this.#chart.highlight(null);
    this.#pensChanged();
  }

  #pensChanged(): void {
    this.#chart.setPens(this.#pens, this.#scaling);
    this.#readout.setPens(this.#pens);
    this.#tree.refresh();
    this.#readAt = -Infinity;
    this.#dirty = true;
    this.#saveHash();
  }

  #subscribe(pen: Pen): void {
    if (pen.id >= 0) this.#stream.unsubscribe(pen.id);
    pen.id = this.#stream.subscribe({
      path: pen.expression ?? pen.path,
      calculated: pen.expression !== null,
      onTags: (tags) => this.#described(pen, tags),
      from: () => this.#liveFrom(),
      points: () => pointsFor(this.#chart.width),
      onRestart: () => pen.live.clear(),
      onColumns: (columns, header) => {
        pen.take(columns);
        if (header.cursor > 0) this.#observe(columns);
        pen.live.trim(this.#liveFrom() - this.#span * 0.25);
        if (pen.shown !== pen.live) return;
        if (header.cursor > 0) this.#lazy = true;
        else this.#dirty = true;
      },
      onLive: () => void this.#fetchHeld(pen),
      onGap: (from, to) => void this.#fillGap(pen, { from, to }),
    });
  }

  /** The server knows of a calculated pen whether its value holds from sample to sample. */
  #described(pen: Pen, [tag]: readonly Tag[]): void {
    if (pen.expression === null || tag === undefined || tag.step === pen.tag.step) return;
    pen.tag = tag;
    this.#pensChanged();
  }

  /** Where the live window begins, and a little before: for what holds as it begins. */
  #liveFrom(): number {
    return this.#clock.now() - this.#span - Math.max(this.#span * 0.05, 90 * SECOND);
  }

  #observe(columns: Columns): void {
    const last = columns.ts.length - 1;
    if (columns.quality[last]! >= GOOD) this.#clock.sample(columns.ts[last]!);
  }

  /** The server left samples out: fetch them. */
  async #fillGap(pen: Pen, gap: Window): Promise<void> {
    const window = { from: Math.max(gap.from, this.#liveFrom()), to: gap.to };
    try {
      if (window.from >= window.to) return;
      const [paths, expressions] = pen.expression === null ? [[pen.path], []] : [[], [pen.expression]];
      await pen.bring(fetchRange(paths, window, pointsFor(this.#chart.width), undefined, expressions));
      this.#dirty = true;
    } catch (error) {
      this.#failed(error, 'history', () => void this.#fillGap(pen, gap));
      // the stream goes on behind the gap and will not tell of it again: a fresh backfill brings what is missing
      if (this.#pens.includes(pen)) this.#subscribe(pen);
    }
  }

  /** A tag that did not change in the whole window, as a state or a setpoint may not for days: what it has been since. */
  async #fetchHeld(pen: Pen): Promise<void> {
    if (pen.live.length > 0 || pen.expression !== null) return;
    try {
      await pen.bring(fetchNewest(pen.path));
      this.#dirty = true;
      if (this.#held !== null && pen.history !== null) pen.showHistory(pen.history, this.#held.from);
    } catch (error) {
      this.#failed(error, 'history', () => void this.#fetchHeld(pen));
    }
  }

  #setScaling(scaling: Scaling): void {
    this.#scaling = scaling;
    this.#pensChanged();
    this.#showState();
  }

  #restyle(): void {
    this.#chart.restyle();
    this.#pensChanged();
  }

  // --- tags

  async #loadTags(): Promise<void> {
    try {
      const tags = await getTags();
      this.#tags = new Map(tags.map((tag) => [tag.path, tag]));
      if (!this.#chosenAtFirst && tags.length > 0) await this.#choose(tags);
      for (const pen of this.#pens) if (pen.expression === null) pen.tag = this.#tags.get(pen.path) ?? pen.tag;
      this.#tree.setTags(tags, this.#pens.filter((pen) => pen.expression === null).map((pen) => pen.path));
      if (tags.length === 0) setTimeout(() => void this.#loadTags(), EMPTY_RETRY_MS);
    } catch (error) {
      this.#failed(error, 'connection', () => void this.#loadTags());
    }
  }

  /** The pens of the hash, or those that move. */
  async #choose(tags: readonly Tag[]): Promise<void> {
    const lively = this.#wanted === null ? await this.#liveliest(tags) : [];
    this.#chosenAtFirst = true;
    this.#setPens(this.#wanted ?? lively.map((path, color) => ({ path, color })));
  }

  async #liveliest(tags: readonly Tag[]): Promise<string[]> {
    const candidates = askable(byUnit(tags, CANDIDATES));
    if (candidates.length <= DEFAULT_PENS) return candidates.map((tag) => tag.path);
    let moved = new Set<number>();
    try {
      const now = this.#clock.now();
      const recent = { from: now - LATELY, to: now };
      moved = moving(await fetchRange(candidates.map((tag) => tag.path), recent, 10, AbortSignal.timeout(LATELY_MS)));
    } catch {
      // without an answer the choice is only less lively
    }
    return liveliest(candidates, moved, DEFAULT_PENS);
  }

  #setPens(choices: readonly PenChoice[]): void {
    const unknown: string[] = [];
    for (const pen of [...this.#pens]) if (!choices.some((choice) => pen.isOf(choice))) this.#stream.unsubscribe(pen.id);
    const kept = this.#pens;
    this.#pens = [];
    for (const choice of choices) {
      const { path, color, calculated } = choice;
      const pen = kept.find((before) => before.isOf(choice));
      const tag = calculated ? calculatedTag(path) : this.#tags.get(path);
      // a name stands for one pen: the samples of two could not be told apart
      if (this.#pens.some((other) => other.path === (pen ?? tag ?? { path: '' }).path)) continue;
      if (pen !== undefined) {
        pen.color = color;
        this.#pens.push(pen);
      } else if (tag !== undefined) this.#add(tag, color, calculated ? path : null);
      else unknown.push(path);
    }
    if (unknown.length > 0) this.#tell(`No such tag: ${unknown.join(', ')}`, 'pens');
    this.#pensChanged();
    // a page that was opened on a window knows the server's time only now
    if (this.#held !== null) this.#hold(this.#held);
  }

  // --- connection and problems

  #connection(state: ConnectionState): void {
    this.#toolbar.setState(state, this.#held !== null);
    document.body.dataset['connection'] = state.name;
    // what changed meanwhile
    if (state.name === 'live') void this.#loadTags();
  }

  /** Why the WebSocket does not open: a browser does not tell, an HTTP request does. */
  async #diagnose(): Promise<string | null> {
    try {
      await get('v1/tags?match=historian-trend-page');
      return null;
    } catch (error) {
      if (error instanceof Problem) {
        this.#failed(error, 'connection', () => this.#stream.retryNow());
        return error.message;
      }
      return 'The server cannot be reached.';
    }
  }

  #failed(error: unknown, topic: Topic, again: () => void): void {
    if (error instanceof Problem && error.status === 401) {
      askForToken(error.detail, () => {
        this.#tell(null, topic);
        again();
        if (this.#tags.size === 0) void this.#loadTags();
        this.#stream.retryNow();
      });
    } else if (error instanceof Problem || error instanceof ProtocolError) {
      this.#tell(error.message, topic);
    } else if (error instanceof TypeError) {
      // no answer: the stream's reconnecting shows when the server is back
      this.#tell('The server cannot be reached.', 'connection');
    } else {
      throw error;
    }
  }

  /** Show a problem, or, with null, take it away if it was about this topic. */
  #tell(text: string | null, topic: Topic): void {
    if (text === null && topic !== this.#topic) return;
    this.#topic = topic;
    this.#problem.hidden = text === null;
    setText(this.#problemText, text ?? '');
  }

  // --- address, keys, drawing

  /** Once the hand rests: browsers refuse more than some hundred changes of the address in half a minute. */
  #saveHash(): void {
    clearTimeout(this.#hashTimer);
    this.#hashTimer = setTimeout(() => this.#writeHash(), 150);
  }

  #writeHash(): void {
    if (!this.#chosenAtFirst) return;
    const pens = this.#pens.map((pen) => pen.choice);
    const hash = formatHash({ pens, span: this.#span, window: this.#held, scaling: this.#scaling });
    if (hash !== location.hash) history.replaceState(null, '', hash);
  }

  /** By hand, or by a link. */
  #hashChanged(): void {
    const hash = parseHash(location.hash);
    this.#scaling = hash.scaling;
    if (hash.span !== this.#span && hash.window === null) this.#preset(hash.span);
    if (hash.pens !== null) {
      this.#wanted = hash.pens;
      this.#setPens(hash.pens);
    }
    if (hash.window !== null) this.#hold({ from: hash.window.from, to: hash.window.from + clampSpan(hash.window.to - hash.window.from) });
    else this.#goLive();
    this.#showState();
  }

  #key(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, dialog, .palette, .popup, .date-range')) return;
    const onButton = target.closest('button') !== null;
    const preset = PRESETS[Number(event.key) - 1];
    if (event.key === ' ' && !onButton) this.#held === null ? this.#hold(this.#window()) : this.#goLive();
    else if (event.key === 'ArrowLeft') this.#move(shift(this.#window(), -0.1));
    else if (event.key === 'ArrowRight') this.#move(shift(this.#window(), 0.1));
    else if (event.key === 'Backspace') this.#back();
    else if (event.key === 'd') this.#dates(this.#toolbar.dates);
    else if (event.key === 'f') this.#expression(this.#toolbar.expression);
    else if (event.key === '+' || event.key === '=') this.#zoomAtCentre(1 / 1.5);
    else if (event.key === '-') this.#zoomAtCentre(1.5);
    else if (event.key === 'l' || event.key === 'End') this.#goLive();
    else if (event.key === '/') this.#tree.search.focus();
    else if (event.key === 'Escape') document.body.classList.remove('menu-open');
    else if (preset !== undefined) this.#preset(preset.span);
    else return;
    event.preventDefault();
  }

  #menu(): void {
    document.body.classList.toggle(matchMedia('(max-width: 760px)').matches ? 'menu-open' : 'menu-closed');
  }

  #showState(): void {
    this.#toolbar.update(this.#window(), this.#span, this.#held !== null, this.#scaling);
    this.#toolbar.setState(this.#stream.state, this.#held !== null);
    document.body.classList.toggle('paused', this.#held !== null);
  }

  #frame(at: number): void {
    const gesture = at - this.#gestureAt < GESTURE_MS;
    // asked for later, and not at every refresh of the screen: an idle page costs next to nothing
    setTimeout(() => requestAnimationFrame((next) => this.#frame(next)), (gesture ? GESTURE_FRAME_MS : FRAME_MS) - 10);
    const window = this.#window();
    // a live window that has not moved by half a pixel looks the same
    const moved = Math.abs(window.to - this.#drawn.to) * this.#chart.width >= 0.5 * (window.to - window.from);
    if (this.#dirty || moved || (this.#lazy && at - this.#drawn.at >= LAZY_FRAME_MS)) {
      this.#dirty = this.#lazy = false;
      this.#drawn = { at, to: window.to };
      this.#chart.draw(window, this.#held === null ? this.#clock.now() : this.#heldAt);
      this.#toolbar.update(window, this.#span, this.#held !== null, this.#scaling);
    }
    if (at - this.#readAt >= READOUT_MS) {
      this.#readAt = at;
      this.#readout.update(this.#cursor, window, this.#held === null);
    }
  }

  /** What is on the screen of a pen. */
  #report(pen: Pen): { path: string; points: number; lastTs: number | null; lastValue: number | string | null } {
    const store = pen.shown;
    const end = this.#held === null ? store.length : store.before(this.#held.to) + 1;
    const last = store.at(end - 1);
    return { path: pen.path, points: end, lastTs: last?.ts ?? null, lastValue: last === null ? null : (last.text ?? last.value) };
  }
}

function tagChoice(tag: Tag): PenChoice {
  return { path: tag.path, color: 0 };
}
