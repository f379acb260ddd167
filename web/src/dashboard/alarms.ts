/** From samples to alarms: stretches of time over which a tag meets a rule. */
import { judge, type Level, limitsOf } from '../data/limits';
import type { Tag } from '../data/protocol';
import type { Store } from '../data/store';
import type { AlarmRule } from './document';

export interface Alarm {
  readonly tag: Tag;
  readonly severity: 'alarm' | 'warning';
  readonly since: number;
  /** null: it is on */
  readonly until: number | null;
  /** index of the newest sample of it */
  readonly at: number;
  /** because its quality is bad */
  readonly bad: boolean;
}

/** What a sample is by a rule; null: not known, as of a bad sample. */
function levelOf(rule: AlarmRule, tag: Tag, store: Store, i: number): Level | null {
  const met = rule.severity ?? 'alarm';
  const level = (is: boolean): Level => (is ? met : 'none');
  if (store.bad(i)) return rule.bad === true ? met : null;
  const { above, below, states } = rule;
  const value = store.value(i);
  if (states !== undefined) return level(states.includes(stateName(tag, value, store.text(i))));
  if (above !== undefined || below !== undefined) return level((above !== undefined && value > above) || (below !== undefined && value < below));
  if (rule.bad === true) return 'none';
  const limits = limitsOf(tag);
  if (limits === undefined) return level((tag.high !== null && value > tag.high) || (tag.low !== null && value < tag.low));
  const judged = judge(value, limits).level;
  return judged === 'none' ? 'none' : (rule.severity ?? judged);
}

/** The name of a state as rules have it. */
export function stateName(tag: Tag, value: number, text: string | null): string {
  if (tag.kind === 'text') return text ?? '';
  if (tag.kind === 'bool') return value ? 'true' : 'false';
  return tag.states?.[String(value)] ?? String(value);
}

/** The alarms of a tag from `from` on, oldest first. What was on before is on until it is known not to be. */
export function alarmsOf(rule: AlarmRule, tag: Tag, store: Store, from: number): Alarm[] {
  const found: Alarm[] = [];
  let open: Omit<Alarm, 'tag' | 'until'> | null = null;
  const close = (until: number | null): void => {
    if (open !== null) found.push({ tag, until, ...open });
    open = null;
  };
  for (let i = Math.max(0, store.before(from)); i < store.length; i++) {
    const level = levelOf(rule, tag, store, i);
    if (level === null) continue;
    // a warning that becomes an alarm is another one
    if ((open as Alarm | null)?.severity !== level) close(store.ts(i));
    if (level !== 'none') open = { severity: level, since: (open as Alarm | null)?.since ?? store.ts(i), at: i, bad: store.bad(i) };
  }
  close(null);
  return found.filter(({ until }) => until === null || until >= from);
}

/** Those that are on first, alarms before warnings, then the newest. */
export function sorted(alarms: readonly Alarm[]): Alarm[] {
  const rank = ({ until, severity }: Alarm): number => (until === null ? 0 : 2) + (severity === 'alarm' ? 0 : 1);
  return [...alarms].sort((a, b) => (a.until === null || b.until === null ? rank(a) - rank(b) : 0) || (b.until ?? b.since) - (a.until ?? a.since) || b.since - a.since);
}
