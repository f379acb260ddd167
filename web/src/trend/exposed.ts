/** `window.historian`: for tests, and for the curious at the console. */
import type { Chart } from '../chart/chart';
import type { Stream } from '../data/stream';
import type { Pen } from '../pens/pen';
import type { PenSet } from '../pens/penset';
import type { View } from '../time/view';

interface Report {
  path: string;
  points: number;
  lastTs: number | null;
  lastValue: number | string | null;
}

interface Drawn {
  ts: number;
  value: number | null;
  quality: number;
  text: string | null;
}

declare global {
  interface Window {
    historian: {
      pens: () => Report[];
      state: () => string;
      /** data frames that came over the WebSocket */
      frames: () => number;
      /** µs */
      window: () => { from: number; to: number };
      /** of a pen, what it is drawn from in the window */
      samples: (path: string) => Drawn[];
      /** where a value of a pen stands on the canvas, in its pixels */
      locate: (path: string, ts: number, value: number) => { x: number; y: number } | null;
    };
  }
}

export interface Exposed {
  readonly stream: Stream;
  readonly view: View;
  readonly chart: Chart;
  readonly pens: PenSet;
}

export function exposeForTests({ stream, view, chart, pens }: Exposed): void {
  const penOf = (path: string): Pen | undefined => pens.all.find((pen) => pen.path === path);
  window.historian = {
    pens: () =>
      pens.all.map((pen) => {
        const store = pen.shown;
        const end = view.held === null ? store.length : store.before(view.held.to) + 1;
        const last = store.at(end - 1);
        return { path: pen.path, points: end, lastTs: last?.ts ?? null, lastValue: last === null ? null : (last.text ?? last.value) };
      }),
    state: () => (stream.state.name === 'live' && view.held !== null ? 'paused' : stream.state.name),
    frames: () => stream.frames,
    window: () => view.window,
    samples: (path) => {
      const store = penOf(path)?.shown;
      const found: Drawn[] = [];
      if (store === undefined) return found;
      const { from, to } = view.window;
      for (let i = store.lowerBound(from); i < store.lowerBound(to); i++) {
        const value = store.value(i);
        found.push({ ts: store.ts(i), value: Number.isNaN(value) ? null : value, quality: store.quality(i), text: store.text(i) });
      }
      return found;
    },
    locate: (path, ts, value) => {
      const pen = penOf(path);
      return pen === undefined ? null : chart.locate(pen, ts, value);
    },
  };
}
