/**
 * The chart: uPlot for the time axis, the canvas and the place of the mouse; what is drawn of the pens is in picture.ts, from their stores, each with timestamps of
 * its own. Times are µs; uPlot's x is in seconds.
 */
import 'uplot/dist/uPlot.min.css';
import './chart.css';
import uPlot from 'uplot';
import type { Pen } from '../pens/pen';
import type { Window } from '../time/spans';
import { currentTheme } from '../ui/theme';
import { CursorLines, type CursorName, type Cursors } from './cursors';
import { listenForGestures } from './gestures';
import { LANE } from './lanes';
import { MouseCursor } from './mousecursor';
import { Picture, type Place } from './picture';
import type { Layout, Scaling } from './scales';
import { timeAxis } from './timeaxis';

export interface ChartEvents {
  /** the user moved or zoomed */
  readonly onWindow: (window: Window) => void;
  /** the user wants the window before the last move or zoom */
  readonly onBack: () => void;
  /** where the mouse stands, null: nowhere */
  readonly onCursor: (ts: number | null) => void;
  /** a cursor that stays was dragged */
  readonly onCursorMoved?: (name: CursorName, ts: number) => void;
}

export class Chart {
  #plot: uPlot | null = null;
  #picture = new Picture();
  #pens: readonly Pen[] = [];
  #window: Window = { from: 0, to: 1 };
  #now = 0;
  #mouse: MouseCursor | null = null;
  #cursors: Cursors | null = null;
  #cursorLines: CursorLines | null = null;
  #signature = '';

  constructor(
    private readonly host: HTMLElement,
    private readonly events: ChartEvents,
  ) {
    new ResizeObserver(() => this.#resize()).observe(host);
  }

  /** Width of the plot in CSS pixels. */
  get width(): number {
    return this.#plot === null ? this.host.clientWidth : this.#plot.bbox.width / devicePixelRatio;
  }

  get canvas(): HTMLCanvasElement | null {
    return this.#plot?.ctx.canvas ?? null;
  }

  setPens(pens: readonly Pen[], scaling: Scaling, layout: Layout = 'overlay'): void {
    this.#pens = pens;
    this.#picture.setPens(pens, scaling, layout);
    this.#build();
  }

  /** Colours have changed. */
  restyle(): void {
    this.#signature = '';
    this.#build();
  }

  highlight(pen: Pen | null): void {
    this.#picture.highlight = pen;
  }

  /** The cursors that stay; null: none. */
  setCursors(cursors: Cursors | null): void {
    this.#cursors = cursors;
    this.#cursorLines?.set(cursors);
  }

  /** Draw a window; `now` is up to where newest states hold. */
  draw(window: Window, now: number): void {
    // on the grid of the columns: a window that moves by whole pixels moves the picture
    const columns = Math.max(1, Math.round(this.width * devicePixelRatio));
    const pixel = Math.max(1, Math.round(window.to - window.from)) / columns;
    const by = Math.floor(window.from / pixel) * pixel - window.from;
    this.#window = { from: window.from + by, to: window.to + by };
    this.#now = now;
    const plot = this.#plot;
    if (plot === null) return;
    this.#picture.look(this.#window, now, columns, plot.width, plot.bbox.height / devicePixelRatio);
    plot.batch(() => {
      plot.setScale('x', { min: this.#window.from / 1e6, max: this.#window.to / 1e6 });
      // the value axes may have become wider
      plot.redraw(false, true);
    });
    this.#placeMouse();
    this.#cursorLines?.place();
  }

  /** Where a value of a pen stands on the canvas, in its pixels; null where it is not seen. */
  locate(pen: Pen, ts: number, value: number): { x: number; y: number } | null {
    const at = this.#picture.place(pen);
    return at === null || this.#plot === null ? null : { x: this.#picture.x(this.#plot.bbox)(ts), y: at.y(value) };
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    if (this.#plot === null) this.#build();
    else this.#plot.setSize({ width, height });
    this.draw(this.#window, this.#now);
  }

  #build(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    const lanes = this.#picture.lanes.length;
    // uPlot's padding is of its axes: a new one only where lanes come or go, or colours change
    const signature = JSON.stringify([lanes, this.#pens.map((pen) => [pen.path, pen.color]), currentTheme()]);
    if (signature === this.#signature && this.#plot !== null) {
      this.draw(this.#window, this.#now);
      return;
    }
    this.#signature = signature;
    this.#plot?.destroy();
    this.#mouse = null;
    const plot = new uPlot(this.#options(width, height, lanes), [[0, 1], [null, null]], this.host);
    this.#plot = plot;
    plot.root.style.setProperty('--lanes', `${lanes * LANE}px`);
    const target = { window: () => this.#window, width: () => this.width };
    this.#mouse = new MouseCursor(plot.over, this.#pens, { ...target, place: (pen) => this.#placeOver(plot, pen) });
    this.#cursorLines = new CursorLines(plot.over, { ...target, onMove: (name, ts) => this.events.onCursorMoved?.(name, ts) });
    this.#cursorLines.set(this.#cursors);
    listenForGestures(plot.over, { ...target, onWindow: this.events.onWindow, onBack: this.events.onBack });
    this.draw(this.#window, this.#now);
  }

  #options(width: number, height: number, lanes: number): uPlot.Options {
    const { axes } = this.#picture;
    return {
      width,
      height,
      padding: [10 + lanes * LANE, () => axes.right, 0, () => axes.left],
      legend: { show: false },
      scales: { x: { time: true, auto: false }, y: { auto: false, range: [0, 1] } },
      axes: [
        timeAxis(() => this.#window.from),
        { show: false, scale: 'y' },
      ],
      // the stores hold the samples; uPlot only needs some data to be awake
      series: [{}, { scale: 'y', points: { show: false } }],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false, setScale: false } },
      hooks: {
        draw: [(u) => this.#picture.draw(u.ctx, u.bbox)],
        setCursor: [(u) => this.#moved(u.cursor.left ?? -1)],
      },
    };
  }

  /** The place of a pen in CSS pixels from the top of the plot. */
  #placeOver({ bbox }: uPlot, pen: Pen): Place | null {
    const place = this.#picture.place(pen);
    if (place === null) return null;
    const { area, y } = place;
    const css = (top: number): number => (top - bbox.top) / devicePixelRatio;
    return { area: { top: css(area.top), height: area.height / devicePixelRatio }, y: (value) => css(y(value)) };
  }

  #moved(left: number): void {
    if (this.#mouse?.moveTo(left) !== true) return;
    this.events.onCursor(this.#mouse.ts);
    this.#placeMouse();
  }

  #placeMouse(): void {
    const ts = this.#mouse?.ts ?? null;
    if (ts !== null) this.events.onCursor(ts);
    this.#mouse?.show();
  }
}
