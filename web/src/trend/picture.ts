/** The picture: the chart, the strip of all there is below it, and when they are drawn. */
import { Chart } from '../chart/chart';
import type { CursorName } from '../chart/cursors';
import type { PenSet } from '../pens/penset';
import type { Window } from '../time/spans';
import type { View } from '../time/view';
import { el } from '../ui/dom';
import { text } from '../ui/strings';
import type { Scales } from './menus';
import { Overview } from './overview';
import { Painter } from './painter';

export interface PictureEvents {
  /** where the mouse is, µs; null: nowhere */
  readonly onCursor: (ts: number | null) => void;
  readonly onCursorMoved: (name: CursorName, ts: number) => void;
  readonly onDrawn: () => void;
  /** now and then, drawn or not; in ms */
  readonly onTurn: (at: number) => void;
  readonly onFailed: (error: unknown, again: () => void) => void;
}

export class Picture {
  readonly host = el('div', { class: 'chart', tabindex: 0, role: 'group', 'aria-label': text.chart, 'aria-describedby': 'chart-summary' });
  readonly chart: Chart;
  readonly overview: Overview;
  readonly painter: Painter;

  /** `now`: the server's, µs. */
  constructor(view: View, now: () => number, events: PictureEvents) {
    const onWindow = (window: Window): void => {
      this.painter.gesture();
      view.move(window);
    };
    this.chart = new Chart(this.host, { onWindow, onBack: () => view.back(), onCursor: events.onCursor, onCursorMoved: events.onCursorMoved });
    this.overview = new Overview(now, { onWindow, onFailed: events.onFailed });
    this.painter = new Painter({
      window: () => view.window,
      live: () => view.held === null,
      width: () => this.chart.width,
      draw: (window) => {
        this.chart.draw(window, view.holdsTo);
        this.overview.show(window);
        events.onDrawn();
      },
      onTurn: events.onTurn,
    });
  }

  setPens({ all }: PenSet, { scaling, layout }: Scales): void {
    this.chart.setPens(all, scaling, layout);
    this.overview.setPens(all);
    this.painter.dirty();
  }
}
