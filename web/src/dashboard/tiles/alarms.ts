/** What is, and was lately, in alarm. */
import { day, spanText, timeOfDay } from '../../time/spans';
import { el } from '../../ui/dom';
import { formatSample } from '../../ui/format';
import { type Alarm, alarmsOf, sorted } from '../alarms';
import { DEFAULT_SPANS, spanUs, type AlarmsTile } from '../document';
import { isWildcard } from '../feed';
import { strings } from '../strings';
import { Notice, type Maker } from './tile';

const MOST = 100;

export const alarmsTile: Maker<AlarmsTile> = (tile, context) => {
  const span = spanUs(tile.span, DEFAULT_SPANS.alarms);
  const rules = tile.rules.filter((rule) => rule.tags !== '');
  const list = el('ul', { class: 'alarms', tabindex: 0, 'aria-label': tile.title ?? strings.types.alarms });
  const notice = new Notice();
  let shown = '';
  return {
    element: el('div', { class: 'tile-alarms' }, list, notice.element),
    title: () => strings.types.alarms,
    wants: () => rules.map(({ tags }) => ({ pattern: tags, span, points: 400 })),
    update(now) {
      const unknown = context.feed.known ? rules.filter(({ tags }) => !isWildcard(tags) && !context.feed.tags.has(tags)).map(({ tags }) => tags) : [];
      const found: { alarm: Alarm; value: string }[] = [];
      let matched = 0;
      for (const rule of rules) {
        for (const { tag, store } of context.feed.matching(rule.tags, span)) {
          matched++;
          for (const alarm of alarmsOf(rule, tag, store, now - span)) found.push({ alarm, value: alarm.bad ? strings.badQuality : `${formatSample(tag, store.at(alarm.at))} ${tag.unit ?? ''}`.trim() });
        }
      }
      const values = new Map(found.map(({ alarm, value }) => [alarm, value]));
      const alarms = sorted(found.map(({ alarm }) => alarm)).slice(0, MOST);
      const why =
        rules.length === 0 ? strings.noTags : !context.feed.live(span) && rules.length > unknown.length ? strings.loading : unknown.length > 0 ? strings.unknownTags(unknown.join(', ')) : matched === 0 ? strings.noMatches : alarms.length === 0 ? strings.noAlarms : null;
      notice.show(why);
      notice.element.dataset['calm'] = String(why === strings.noAlarms);
      const rows = why === strings.loading ? [] : alarms.map((alarm) => ({ alarm, texts: texts(alarm, values.get(alarm) ?? '', now) }));
      // nothing is built anew where nothing has changed
      const next = JSON.stringify(rows.map(({ alarm, texts: words }) => [alarm.tag.path, alarm.severity, alarm.until === null, words]));
      if (next === shown) return;
      shown = next;
      list.replaceChildren(
        ...rows.map(({ alarm, texts: [name, value, time, severity] }) =>
          el(
            'li',
            { class: `${alarm.severity} ${alarm.until === null ? 'active' : 'over'}`, title: alarm.tag.path },
            el('span', { class: 'alarm-lamp', role: 'img', 'aria-label': severity! }),
            el('span', { class: 'alarm-name' }, name!),
            el('span', { class: 'alarm-value' }, value!),
            el('span', { class: 'alarm-time' }, time!),
          ),
        ),
      );
    },
  };
};

function texts({ tag, severity, since, until }: Alarm, value: string, now: number): string[] {
  const at = day(since) === day(now) ? timeOfDay(since) : `${day(since)} ${timeOfDay(since)}`;
  const name = tag.path.split('/').slice(-3).join(' · ').replaceAll('_', ' ');
  return [name, value, until === null ? `${at} · ${strings.active}` : `${at} · ${strings.over(spanText(until - since))}`, severity === 'alarm' ? strings.alarm : strings.warning];
}
