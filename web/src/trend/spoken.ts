/** What the trend says in words, for screen readers: what is on the chart, values on demand, and limits that were passed. */
import { judge, type Mark } from '../data/limits';
import type { Pen } from '../pens/pen';
import { day, timeOfDay, type Window } from '../time/spans';
import { decimalsOf, formatSample, qualityName } from '../ui/format';
import { text } from '../ui/strings';
import type { ReadoutState } from './readout';

/** As `temperature 65.2 °C, uncertain`. */
function valueOf(pen: Pen, at: number | null): string {
  const store = pen.shown;
  const sample = at === null ? store.last() : store.at(store.before(at));
  if (sample === null) return text.nothing;
  const quality = qualityName(sample.quality);
  return `${formatSample(pen.tag, sample, decimalsOf(store))} ${pen.tag.unit ?? ''}`.trim() + (quality === 'good' ? '' : `, ${text.quality[quality]}`);
}

/** How many pens, and from when to when. */
export function summary(pens: number, { from, to }: Window, live: boolean): string {
  // of a live window the end is now, and the beginning goes on with it
  const minute = (us: number): string => `${day(us)} ${timeOfDay(us).slice(0, 5)}`;
  return text.summary(pens, live ? `${text.state.live}, ${text.between(minute(from), minute(to))}` : text.between(`${day(from)} ${timeOfDay(from)}`, `${day(to)} ${timeOfDay(to)}`));
}

/** The values at cursors A and B, else at the mouse, else the newest ones, or those at the end of a window that is held. */
export function readValues(pens: readonly Pen[], { cursor, cursors, live, window }: ReadoutState): string {
  const all = (at: number | null): string => pens.map((pen) => `${pen.label} ${valueOf(pen, at)}`).join('; ');
  const then = (ts: number, name = ''): string => `${name}${text.valuesAt(timeOfDay(ts))}: ${all(ts)}`;
  if (cursors !== null) return [then(cursors.a, `${text.cursor('A')}. `), then(cursors.b, `${text.cursor('B')}. `)].join('. ');
  if (cursor !== null) return then(cursor);
  return live ? `${text.valuesNow}: ${all(null)}` : then(window.to);
}

/** Tells when newest values pass limits. */
export class LimitWatch {
  #marks = new Map<Pen, Mark>();

  /** What has passed since the last time, in words; a pen that was beyond its limits from the beginning is no news. */
  passed(pens: readonly Pen[]): string[] {
    const marks = new Map<Pen, Mark>();
    const said: string[] = [];
    for (const pen of pens) {
      const last = pen.live.length - 1;
      if (pen.limits === undefined || last < 0 || pen.live.bad(last)) continue;
      const { mark } = judge(pen.live.value(last), pen.limits);
      const before = this.#marks.get(pen);
      if (before !== undefined && before !== mark) said.push(text.passed[mark](pen.label, valueOf(pen, null)));
      marks.set(pen, mark);
    }
    this.#marks = marks;
    return said;
  }
}
