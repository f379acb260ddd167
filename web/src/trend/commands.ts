/** What the keys of the page do. */
import type { Layout } from '../chart/scales';
import type { View } from '../time/view';
import type { TreeView } from '../tags/treeview';
import type { Analysis } from './analysis';
import { type Action, listenForKeys } from './keys';
import { showTrendKeys } from './keyslist';
import { closeDrawer } from './layout';
import type { Scales } from './menus';
import type { Readout } from './readout';
import type { Toolbar } from './toolbar';

const LAYOUTS: readonly Layout[] = ['overlay', 'units', 'pens'];

export interface Commanded {
  readonly view: View;
  readonly analysis: Analysis;
  readonly toolbar: Toolbar;
  readonly tree: TreeView;
  readonly readout: Readout;
  readonly scales: () => Scales;
  readonly setScales: (scales: Scales) => void;
  /** where the mouse is, µs; null: nowhere */
  readonly cursor: () => number | null;
}

export function commandByKeys({ view, analysis, toolbar, tree, readout, scales, setScales, cursor }: Commanded): void {
  const setCursor = (name: 'a' | 'b'): void => analysis.moveCursor(name, cursor() ?? (view.window.from + view.window.to) / 2);
  const does: Record<Action, () => void> = {
    pause: () => view.pauseOrLive(),
    live: () => view.goLive(),
    earlier: () => view.pan(-0.1),
    later: () => view.pan(0.1),
    zoomIn: () => view.zoom(1 / 1.5),
    zoomOut: () => view.zoom(1.5),
    back: () => view.back(),
    forward: () => view.forward(),
    dates: () => toolbar.dates.click(),
    expression: () => toolbar.expression.click(),
    search: () => tree.search.focus(),
    close: () => {
      closeDrawer();
      if (analysis.cursors !== null) analysis.setCursors(null);
    },
    scales: () => toolbar.scales.click(),
    layout: () => setScales({ ...scales(), layout: LAYOUTS[(LAYOUTS.indexOf(scales().layout) + 1) % LAYOUTS.length]! }),
    cursors: () => analysis.toggleCursors(),
    cursorA: () => setCursor('a'),
    cursorB: () => setCursor('b'),
    statistics: () => analysis.toggleStatistics(),
    compare: () => toolbar.compare.click(),
    export: () => toolbar.export.click(),
    read: () => readout.read(),
    help: showTrendKeys,
  };
  listenForKeys((action) => {
    if (typeof action === 'number') view.preset(action);
    else does[action]();
    return true;
  });
}
