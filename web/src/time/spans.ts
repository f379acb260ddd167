/** Time spans: the presets, how a window moves and zooms, and how times are written, in the language of the page. Times are µs. */
import { decimalSign, language } from '../ui/language';
import { text } from '../ui/strings';

export const SECOND = 1_000_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export interface Preset {
  readonly label: string;
  readonly title: string;
  readonly span: number;
}

export const PRESETS: readonly Preset[] = [5 * MINUTE, 15 * MINUTE, HOUR, 8 * HOUR, DAY, 7 * DAY].map((span, i) => ({ ...text.presets[i]!, span }));

export const DEFAULT_SPAN = 15 * MINUTE;
const MIN_SPAN = 100_000;
export const MAX_SPAN = 10 * 366 * DAY;

/** A stretch of time, half-open. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

export function clampSpan(span: number): number {
  return Math.min(MAX_SPAN, Math.max(MIN_SPAN, span));
}

/** The window `factor` times as long, in which `anchor` stays where it is. */
export function zoom(window: Window, anchor: number, factor: number): Window {
  const span = window.to - window.from;
  const zoomed = clampSpan(span * factor);
  const from = anchor - ((anchor - window.from) * zoomed) / span;
  return { from, to: from + zoomed };
}

/** The window moved by a part of itself. */
export function shift(window: Window, part: number): Window {
  const by = (window.to - window.from) * part;
  return { from: window.from + by, to: window.to + by };
}

/** Points of a backfill: the first, the last, the lowest and the highest for each pixel. */
export function pointsFor(width: number): number {
  return Math.min(100_000, Math.max(200, Math.round(width) * 4));
}

const two = (n: number): string => String(n).padStart(2, '0');

/** In 24 hours, as plants have them in every language. */
export function timeOfDay(us: number, decimals = 0): string {
  const time = isoTime(us);
  if (decimals === 0) return time;
  const fraction = String(((us % SECOND) + SECOND) % SECOND | 0).padStart(6, '0');
  return `${time}${decimalSign}${fraction.slice(0, decimals)}`;
}

// in English the order of day and month differs from country to country; all of them read 2026-03-01
const dates = language === 'en' ? null : new Intl.DateTimeFormat(language, { day: '2-digit', month: '2-digit', year: 'numeric' });

export function day(us: number): string {
  return dates === null ? isoDay(us) : dates.format(us / 1000);
}

/** For machines, whole seconds. */
export function isoTime(us: number): string {
  const date = new Date(Math.floor(us / 1000));
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function isoDay(us: number): string {
  const date = new Date(us / 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** As in `1 h 30 min`: the two largest units. */
export function spanText(span: number): string {
  const { d, h, min, s, ms } = text.units;
  const units: [string, number][] = [
    [d, DAY],
    [h, HOUR],
    [min, MINUTE],
    [s, SECOND],
  ];
  for (const [i, [name, size]] of units.entries()) {
    if (span < size) continue;
    const whole = Math.floor(span / size + 1e-9);
    const next = units[i + 1];
    const rest = next === undefined ? 0 : Math.round((span - whole * size) / next[1]);
    return rest > 0 && next !== undefined ? `${whole} ${name} ${rest} ${next[0]}` : `${whole} ${name}`;
  }
  return `${Math.round(span / 1000)} ${ms}`;
}

/** The label of a tick of the time axis; `increment` between ticks. The date stands below where a day begins, and at the first tick. */
export function tickLabel(us: number, increment: number, previous: number | null): string {
  const date = new Date(us / 1000);
  if (increment >= DAY) return day(us);
  const decimals = increment >= SECOND ? 0 : increment >= 100_000 ? 1 : 3;
  const time = increment >= MINUTE ? `${two(date.getHours())}:${two(date.getMinutes())}` : timeOfDay(us, decimals);
  return previous === null || day(previous) !== day(us) ? `${time}\n${day(us)}` : time;
}
