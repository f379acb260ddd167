/** The newest value, above a small line of what came before it. */
import { judge, limitsOf } from '../../data/limits';
import { el } from '../../ui/dom';
import { Canvas } from '../canvas';
import { DEFAULT_SPANS, spanUs, type SparklineTile } from '../document';
import { drawLines } from '../plot';
import { missing, Notice, Reading, shortName, type Maker } from './tile';

export const sparklineTile: Maker<SparklineTile> = (tile, context) => {
  const span = spanUs(tile.span, DEFAULT_SPANS.sparkline);
  const reading = new Reading();
  const notice = new Notice();
  const canvas = new Canvas(shortName(tile.tag), context.redraw);
  return {
    element: el('div', { class: 'tile-sparkline' }, reading.element, canvas.element, notice.element),
    title: () => shortName(tile.tag),
    wants: () => (tile.tag === '' ? [] : [{ pattern: tile.tag, span, points: 400 }]),
    update(now) {
      const series = context.feed.series(tile.tag, span);
      const why = missing(context, tile.tag, series, span);
      notice.show(why, reading.element, canvas.element);
      if (why !== null || series === null) return;
      const limits = tile.limits ?? limitsOf(series.tag);
      reading.show(series, { decimals: tile.decimals, ...judge(series.store.last()?.value ?? NaN, limits), staleAfter: tile.stale_after, now });
      drawLines(canvas, [{ series, color: 0 }], { window: { from: now - span, to: now }, now, axes: false, limits });
    },
  };
};
