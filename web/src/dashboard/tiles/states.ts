/** Which states tags were in, as bands along time. */
import { timeOfDay } from '../../time/spans';
import { el } from '../../ui/dom';
import { formatSample } from '../../ui/format';
import { Canvas } from '../canvas';
import { DEFAULT_SPANS, spanUs, type StatesTile } from '../document';
import type { Series } from '../feed';
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
      canvas.describe([strings.bands(tile.title ?? title), ...bands.map(({ series, label }) => (series === null || series.store.length === 0 ? label : lasting(series, label)))].join('. '));
    },
  };
};

/** In words: the state that a tag is in, and since when. */
function lasting({ tag, store }: Series, label: string): string {
  let first = store.length - 1;
  const [value, text] = [store.value(first), store.text(first)];
  while (first > 0 && !store.bad(first - 1) && store.value(first - 1) === value && store.text(first - 1) === text) first--;
  return strings.lasting(label, formatSample(tag, store.last()), timeOfDay(store.ts(first)));
}
