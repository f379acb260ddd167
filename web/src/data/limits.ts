/** What a value is by its limits: good, a warning or an alarm. */
import type { Tag } from './protocol';

export interface Limits {
  readonly low_low?: number;
  readonly low?: number;
  readonly high?: number;
  readonly high_high?: number;
}

export type Level = 'none' | 'warning' | 'alarm';
export type Mark = '' | 'LL' | 'L' | 'H' | 'HH';

/** The level, and which limit it is that was passed: colours alone tell nothing to many. */
export interface Judged {
  readonly level: Level;
  readonly mark: Mark;
}

const WITHIN: Judged = { level: 'none', mark: '' };

export function judge(value: number, limits: Limits | undefined): Judged {
  if (limits === undefined || Number.isNaN(value)) return WITHIN;
  const { low_low, low, high, high_high } = limits;
  if (high_high !== undefined && value > high_high) return { level: 'alarm', mark: 'HH' };
  if (low_low !== undefined && value < low_low) return { level: 'alarm', mark: 'LL' };
  if (high !== undefined && value > high) return { level: 'warning', mark: 'H' };
  if (low !== undefined && value < low) return { level: 'warning', mark: 'L' };
  return WITHIN;
}

/** Those that a tag has in the catalogue; undefined: none. */
export function limitsOf(tag: Tag): Limits | undefined {
  const given = (['low_low', 'low', 'high', 'high_high'] as const).flatMap((name) => {
    const limit = tag[`${name}_limit`] ?? null;
    return limit === null ? [] : [[name, limit] as const];
  });
  return given.length > 0 ? Object.fromEntries(given) : undefined;
}

/** A stretch of values beyond a limit: from it on outwards, to the next one or without end. */
export interface Zone {
  readonly mark: Exclude<Mark, ''>;
  readonly level: Exclude<Level, 'none'>;
  readonly limit: number;
  /** ±Infinity: no end */
  readonly to: number;
}

export function zonesOf(limits: Limits | undefined): Zone[] {
  const { low_low, low, high, high_high } = limits ?? {};
  const zones: Zone[] = [];
  if (low_low !== undefined) zones.push({ mark: 'LL', level: 'alarm', limit: low_low, to: -Infinity });
  if (low !== undefined) zones.push({ mark: 'L', level: 'warning', limit: low, to: low_low ?? -Infinity });
  if (high !== undefined) zones.push({ mark: 'H', level: 'warning', limit: high, to: high_high ?? Infinity });
  if (high_high !== undefined) zones.push({ mark: 'HH', level: 'alarm', limit: high_high, to: Infinity });
  return zones;
}
