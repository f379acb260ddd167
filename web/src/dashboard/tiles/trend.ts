/** A live chart of some tags. */
import { limitsOf } from '../../data/limits';
import { el, setText } from '../../ui/dom';
import { decimalsOf, formatSample, qualityName } from '../../ui/format';
import { currentTheme, penColor } from '../../ui/theme';
import { Canvas } from '../canvas';
import { DEFAULT_SPANS, spanUs, type TrendTile } from '../document';
import { drawLines } from '../plot';
import { strings } from '../strings';
import { missing, Notice, shortName, type Maker } from './tile';

export const trendTile: Maker<TrendTile> = (tile, context) => {
  const span = spanUs(tile.span, DEFAULT_SPANS.trend);
  const notice = new Notice();
  const title = tile.tags.map(shortName).join(', ');
  const canvas = new Canvas(strings.chart(tile.title ?? title), context.redraw);
  const legend = el('ul', { class: 'legend' });
  const entries = tile.tags.map((path) => {
    const [swatch, value] = [el('i', { 'aria-hidden': 'true' }), el('b')];
    legend.append(el('li', { title: path }, swatch, el('span', {}, tile.tags.length > 1 ? levelsThatDiffer(path, tile.tags) : shortName(path)), value));
    return { path, swatch, value };
  });
  return {
    element: el('div', { class: 'tile-trend' }, canvas.element, legend, notice.element),
    title: () => title,
    wants: () => tile.tags.map((pattern) => ({ pattern, span, points: 2000 })),
    update(now) {
      const found = entries.map(({ path }) => context.feed.series(path, span));
      const whys = entries.map(({ path }, i) => missing(context, path, found[i]!, span));
      const all = entries.length === 0 ? strings.noTags : whys.every((why) => why !== null) ? whys[0]! : null;
      notice.show(all, canvas.element, legend);
      if (all !== null) return;
      entries.forEach(({ swatch, value }, i) => {
        const series = found[i] ?? null;
        const sample = series?.store.last() ?? null;
        swatch.style.background = penColor(currentTheme(), i);
        const bad = sample !== null && qualityName(sample.quality) === 'bad';
        setText(value, whys[i] ?? `${formatSample(series!.tag, sample, decimalsOf(series!.store))} ${series!.tag.unit ?? ''}${bad ? ` · ${strings.badQuality}` : ''}`);
      });
      const lines = found.flatMap((series, color) => (series === null || series.tag.kind === 'text' ? [] : [{ series, color }]));
      // of several tags nobody could tell whose they are
      const limits = tile.limits ?? (lines.length === 1 && entries.length === 1 ? limitsOf(lines[0]!.series.tag) : undefined);
      drawLines(canvas, lines, { window: { from: now - span, to: now }, now, axes: true, min: tile.min, max: tile.max, limits });
    },
  };
};

/** Of several tags, what tells them apart: the levels that all have in common are left out. */
export function levelsThatDiffer(path: string, all: readonly string[]): string {
  const levels = path.split('/');
  const kept = levels.filter((level, i) => i === levels.length - 1 || all.some((other) => other.split('/')[i] !== level));
  const last = kept.at(-1);
  const same = all.every((other) => other.split('/').at(-1) === last);
  return (same && kept.length > 1 ? kept.slice(0, -1) : kept).join(' · ').replaceAll('_', ' ');
}
