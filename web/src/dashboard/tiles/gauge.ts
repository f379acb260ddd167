/** The newest value on a scale of three quarters of a circle, with its limits on the rim. */
import { judge, type Level, type Limits, limitsOf, zonesOf } from '../../data/limits';
import { formatNumber, qualityName } from '../../ui/format';
import { el } from '../../ui/dom';
import type { GaugeTile } from '../document';
import { strings } from '../strings';
import { missing, newest, NEWEST, Notice, Reading, shortName, type Maker } from './tile';

const SVG = 'http://www.w3.org/2000/svg';
const RADIUS = 42;
/** degrees, clockwise from above */
const [START, SWEEP] = [-120, 240];

export const gaugeTile: Maker<GaugeTile> = (tile, context) => {
  const reading = new Reading();
  const notice = new Notice();
  const svg = make('svg', { viewBox: '0 0 100 80', 'aria-hidden': 'true', class: 'gauge-dial' });
  const zones = make('g', {});
  const value = make('path', { class: 'gauge-value' });
  const [least, most] = [make('text', { x: '17', y: '79', class: 'gauge-end' }), make('text', { x: '83', y: '79', class: 'gauge-end' })];
  svg.append(make('path', { d: arc(0, 1, RADIUS), class: 'gauge-rim' }), zones, value, least, most);
  const dial = el('div', { class: 'gauge' });
  dial.append(svg, reading.element);
  let scale = '';
  return {
    element: el('div', { class: 'tile-gauge' }, dial, notice.element),
    title: () => shortName(tile.tag),
    wants: () => newest(tile.tag),
    update(now) {
      const series = context.feed.series(tile.tag, NEWEST);
      const low = tile.min ?? series?.tag.low ?? null;
      const high = tile.max ?? series?.tag.high ?? null;
      const why = missing(context, tile.tag, series, NEWEST) ?? (series!.tag.kind === 'text' ? strings.noNumber : low === null || high === null || low >= high ? strings.noRange : null);
      notice.show(why, dial);
      if (why !== null || series === null || low === null || high === null) return;
      const limits = tile.limits ?? limitsOf(series.tag);
      const share = (number: number): number => Math.min(1, Math.max(0, (number - low) / (high - low)));
      const drawn = JSON.stringify([low, high, limits]);
      if (scale !== drawn) {
        scale = drawn;
        zones.replaceChildren(...zonesWithin(limits, low, high).map(({ from, to, level }) => make('path', { d: arc(share(from), share(to), RADIUS + 6), class: `gauge-zone ${level}` })));
        least.textContent = formatNumber(low, Number.isInteger(low) ? 0 : undefined);
        most.textContent = formatNumber(high, Number.isInteger(high) ? 0 : undefined);
      }
      const sample = series.store.last();
      const judged = judge(sample?.value ?? NaN, limits);
      reading.show(series, { decimals: tile.decimals, ...judged, staleAfter: tile.stale_after, now });
      const shown = sample === null || Number.isNaN(sample.value) || qualityName(sample.quality) === 'bad' ? null : share(sample.value);
      value.setAttribute('d', shown === null || shown === 0 ? '' : arc(0, shown, RADIUS));
      value.setAttribute('class', `gauge-value ${judged.level}`);
    },
  };
};

/** The stretches of a scale that are a warning or an alarm. */
export function zonesWithin(limits: Limits | undefined, low: number, high: number): { from: number; to: number; level: Level }[] {
  const clamp = (value: number): number => Math.min(high, Math.max(low, value));
  const zones = zonesOf(limits).map(({ limit, to, level }) => ({ from: clamp(Math.min(limit, to)), to: clamp(Math.max(limit, to)), level }));
  return zones.filter(({ from, to }) => from < to);
}

function arc(from: number, to: number, radius: number): string {
  const point = (share: number): string => {
    const angle = ((START + SWEEP * share) * Math.PI) / 180;
    return `${(50 + radius * Math.sin(angle)).toFixed(2)} ${(52 - radius * Math.cos(angle)).toFixed(2)}`;
  };
  return `M ${point(from)} A ${radius} ${radius} 0 ${(to - from) * SWEEP > 180 ? 1 : 0} 1 ${point(to)}`;
}

function make(name: string, attributes: Record<string, string>): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
