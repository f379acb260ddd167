/** Which states tags were in, as bands along time. */
import { el } from '../../ui/dom';
import { Canvas } from '../canvas';
import { DEFAULT_SPANS, spanUs, type StatesTile } from '../document';
import { drawBands } from '../plot';
import { strings } from '../strings';
import { levelsThatDiffer } from './trend';
import { missing, Notice, shortName, type Maker } from './tile';

export const statesTile: Maker<StatesTile> = (tile, context) => {
  const span = spanUs(tile.span, DEFAULT_SPANS.states);
  const notice = new Notice();
  const title = tile.tags.map(shortName).join(', ');
  const canvas = new Canvas(strings.bands(tile.title ?? title), context.redraw);
  return {
    element: el('div', { class: 'tile-states' }, canvas.element, notice.element),
    title: () => title,
    wants: () => tile.tags.map((pattern) => ({ pattern, span, points: 2000 })),
    update(now) {
      const found = tile.tags.map((path) => context.feed.series(path, span));
      const whys = tile.tags.map((path, i) => missing(context, path, found[i]!, span));
      const all = tile.tags.length === 0 ? strings.noTags : whys.every((why) => why !== null) ? whys[0]! : null;
      notice.show(all, canvas.element);
      if (all !== null) return;
      const bands = tile.tags.map((path, i) => ({ series: found[i]!, label: whys[i] ?? levelsThatDiffer(path, tile.tags) }));
      drawBands(canvas, bands, { from: now - span, to: now }, now);
    },
  };
};
