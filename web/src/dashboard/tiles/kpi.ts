/** A key figure of a piece of equipment. OEE shows its three factors too, where there is room. */
import { spanText } from '../../time/spans';
import { el, setText } from '../../ui/dom';
import { formatNumber } from '../../ui/format';
import { RATIOS, spanUs, type Equipment, type KpiTile, type Show } from '../document';
import { keyFigure } from '../kpi';
import { judgeRatio } from '../ratio';
import { strings } from '../strings';
import { fit, Notice, type Maker } from './tile';

const FACTORS = ['availability', 'performance', 'quality'] as const;

export const kpiTile: Maker<KpiTile> = (tile, context) => {
  const [value, unit, note] = [el('span', { class: 'reading-value' }), el('span', { class: 'reading-unit' }), el('div', { class: 'reading-note' })];
  const line = el('div', { class: 'reading-line' }, value, unit);
  const reading = el('div', { class: 'reading' }, line, note);
  const notice = new Notice();
  const bars = FACTORS.map((factor) => ({ factor, fill: el('i'), text: el('b') }));
  const factors = el('ul', { class: 'factors' }, ...bars.map(({ factor, fill, text }) => el('li', {}, el('span', {}, strings.shows[factor]), el('div', { class: 'bar', 'aria-hidden': 'true' }, fill), text)));
  const period = tile.period ?? 'shift';
  const when = period === 'shift' ? strings.shift : strings.last(spanText(spanUs(period, '8h')));
  return {
    element: el('div', { class: `tile-kpi ${tile.show}` }, reading, tile.show === 'oee' ? factors : '', notice.element),
    title: () => strings.shows[tile.show] ?? tile.show,
    wants: () => [],
    update() {
      const equipment = context.dashboard().equipment?.[tile.equipment];
      const figures = equipment === undefined ? null : context.kpis.figures(equipment, period);
      const why = equipment === undefined ? strings.unknownEquipment(tile.equipment) : (unknownTags(equipment, context.feed.known ? context.feed.tags : null) ?? (figures === null ? strings.loading : null));
      notice.show(why, reading, factors);
      if (why !== null || figures === null) return;
      const found = keyFigure(tile.show, figures);
      const [text, of] = words(tile.show, found);
      setText(value, text);
      setText(unit, of);
      fit(line, text, of);
      const target = tile.target === undefined ? '' : strings.target(`${formatNumber(tile.target * 100, 0)} %`);
      setText(note, [Number.isNaN(found) ? strings.noData : '', when, target, figures.partial ? strings.partial : ''].filter((part) => part !== '').join(' · '));
      note.title = figures.partial ? strings.partialWhy : '';
      reading.dataset['level'] = isRatio(tile.show) ? judgeRatio(found, tile.target, tile.alarm) : 'none';
      for (const bar of bars) {
        const share = keyFigure(bar.factor, figures);
        bar.fill.style.width = `${Number.isNaN(share) ? 0 : Math.min(100, Math.max(0, share * 100))}%`;
        setText(bar.text, words(bar.factor, share).join(' '));
      }
    },
  };
};

/** All tags that a piece of equipment is reckoned from. */
export function tagsOf({ state, total, good, ideal_cycle }: Equipment): string[] {
  return [state, total, good, ...(typeof ideal_cycle === 'string' ? [ideal_cycle] : [])];
}

function unknownTags(equipment: Equipment, tags: ReadonlyMap<string, unknown> | null): string | null {
  const unknown = tags === null ? [] : tagsOf(equipment).filter((path) => !tags.has(path));
  return unknown.length === 0 ? null : unknown.length === 1 ? strings.unknownTag(unknown[0]!) : strings.unknownTags(unknown.join(', '));
}

function isRatio(show: Show): boolean {
  return (RATIOS as readonly Show[]).includes(show);
}

function words(show: Show, value: number): [string, string] {
  if (Number.isNaN(value)) return ['–', ''];
  if (isRatio(show)) return [formatNumber(value * 100, 1), '%'];
  if (show === 'running') return [spanText(Math.round(value) * 1e6), ''];
  return [formatNumber(value, 0), ''];
}
