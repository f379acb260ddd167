/** The newest value of a tag. */
import { el } from '../../ui/dom';
import { stateName } from '../alarms';
import { judge, type Judged, limitsOf } from '../../data/limits';
import type { ValueTile } from '../document';
import { missing, newest, NEWEST, Notice, Reading, shortName, type Maker } from './tile';

export const valueTile: Maker<ValueTile> = (tile, context) => {
  const reading = new Reading();
  const notice = new Notice();
  return {
    element: el('div', { class: 'tile-value' }, reading.element, notice.element),
    title: () => shortName(tile.tag),
    wants: () => newest(tile.tag),
    update(now) {
      const series = context.feed.series(tile.tag, NEWEST);
      const why = missing(context, tile.tag, series, NEWEST);
      notice.show(why, reading.element);
      if (why !== null || series === null) return;
      const sample = series.store.last();
      let judged: Judged = { level: 'none', mark: '' };
      if (sample !== null) {
        const name = stateName(series.tag, sample.value, sample.text);
        if (tile.alarm_states?.includes(name)) judged = { level: 'alarm', mark: '' };
        else if (tile.warning_states?.includes(name)) judged = { level: 'warning', mark: '' };
        else judged = judge(sample.value, tile.limits ?? limitsOf(series.tag));
      }
      reading.show(series, { decimals: tile.decimals, ...judged, staleAfter: tile.stale_after, now });
    },
  };
};
