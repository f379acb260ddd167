/** The form of a dashboard's shifts: how long they are, when the first begins, where. */
import { el } from '../ui/dom';
import { form } from './dialogs';
import type { Dashboard, Shifts } from './document';
import { select } from './inputs';
import { strings } from './strings';

/** Hours that divide a day. */
const HOURS = [1, 2, 3, 4, 6, 8, 12, 24];
/** What the server takes where a document says nothing. */
const DEFAULT = { interval: '8h', origin: '06:00', tz: 'UTC' } as const satisfies Shifts;

export function openShifts(dashboard: Dashboard, apply: (next: Dashboard, prefix: string) => Promise<readonly string[] | null>): void {
  const words = strings.shifts;
  const { interval, origin, tz } = { ...DEFAULT, ...dashboard.shifts };
  const length = select(HOURS.map((hours) => [`${hours}h`, words.length(hours, 24 / hours)] as const), interval);
  const first = el('input', { type: 'time', value: origin, required: true });
  const zone = el('input', { type: 'text', list: 'time-zones', value: tz, autocomplete: 'off', spellcheck: 'false' });
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zones = [...new Set([here, 'UTC', ...Intl.supportedValuesOf('timeZone')])];
  const preview = el('ol', { class: 'shift-list', 'aria-label': words.preview });
  const show = (): void => preview.replaceChildren(...shiftsOf(length.value, first.value).map(([from, to]) => el('li', {}, `${from} – ${to}`)));
  for (const input of [length, first]) input.addEventListener('input', show);
  show();
  const label = (text: string, field: HTMLElement): HTMLElement => el('label', {}, el('span', {}, text), field);
  const body = el('div', { class: 'fields' }, el('datalist', { id: 'time-zones' }, ...zones.map((value) => el('option', { value }))), label(words.lengthOf, length), label(words.first, first), label(words.zone, zone), preview);
  form(words.heading, body, async () => {
    const faults = [...(first.value === '' ? [words.badTime] : []), ...(zone.value.trim() === '' ? [words.noZone] : [])];
    return faults.length > 0 ? faults : apply({ ...dashboard, shifts: { interval: length.value, origin: first.value, tz: zone.value.trim() } }, 'shifts.');
  });
}

/** From when to when the shifts of a day go, beginning with the first: `06:00`, `14:00`. */
export function shiftsOf(interval: string, origin: string): [string, string][] {
  // of a time that is not written out there is none
  if (!/^\d\d:\d\d$/.test(origin)) return [];
  const [hours, minutes] = origin.split(':').map(Number) as [number, number];
  const each = parseInt(interval, 10);
  const clock = (hour: number): string => `${String(hour % 24).padStart(2, '0')}:${String(minutes).padStart(2, '0')}`;
  return Array.from({ length: 24 / each }, (_, n) => [clock(hours + n * each), clock(hours + (n + 1) * each)]);
}
