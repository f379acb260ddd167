/** A dashboard as the server keeps it (docs/dashboards.md), and new tiles. The server checks documents; what is here trusts it. */
import type { Limits } from '../data/limits';

export const COLUMNS = 12;
export const MAX_ROWS = 100;

/** As `15m`: the server's form of a span of time. */
export type Span = string;

export interface Place {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

interface Base extends Place {
  readonly title?: string;
}

interface OfTag extends Base {
  readonly tag: string;
  readonly decimals?: number;
  /** instead of those of the tag */
  readonly limits?: Limits;
  readonly stale_after?: Span;
}

export interface ValueTile extends OfTag {
  readonly type: 'value';
  readonly alarm_states?: readonly string[];
  readonly warning_states?: readonly string[];
}

export interface GaugeTile extends OfTag {
  readonly type: 'gauge';
  readonly min?: number;
  readonly max?: number;
}

export interface SparklineTile extends OfTag {
  readonly type: 'sparkline';
  readonly span?: Span;
}

export interface TrendTile extends Base {
  readonly type: 'trend';
  readonly tags: readonly string[];
  readonly span?: Span;
  readonly min?: number;
  readonly max?: number;
  readonly limits?: Limits;
}

export interface StatesTile extends Base {
  readonly type: 'states';
  readonly tags: readonly string[];
  readonly span?: Span;
}

export interface AlarmRule {
  /** a path or wildcard */
  readonly tags: string;
  readonly above?: number;
  readonly below?: number;
  readonly states?: readonly string[];
  readonly bad?: boolean;
  readonly severity?: 'alarm' | 'warning';
}

export interface AlarmsTile extends Base {
  readonly type: 'alarms';
  readonly rules: readonly AlarmRule[];
  readonly span?: Span;
}

export interface TextTile extends Base {
  readonly type: 'text';
  readonly text: string;
  readonly heading?: boolean;
}

export const RATIOS = ['oee', 'availability', 'performance', 'quality'] as const;
export const AMOUNTS = ['total', 'good', 'rejects', 'running'] as const;
export type Show = (typeof RATIOS)[number] | (typeof AMOUNTS)[number];

export interface KpiTile extends Base {
  readonly type: 'kpi';
  readonly equipment: string;
  readonly show: Show;
  /** `shift` or a span */
  readonly period?: string;
  readonly target?: number;
  readonly alarm?: number;
}

export type Tile = ValueTile | GaugeTile | SparklineTile | TrendTile | StatesTile | AlarmsTile | TextTile | KpiTile;
export type TileType = Tile['type'];

export interface Equipment {
  readonly title?: string;
  readonly state: string;
  readonly running: readonly string[];
  readonly planned_stops?: readonly string[];
  readonly total: string;
  readonly good: string;
  /** seconds a piece, or the tag that has them */
  readonly ideal_cycle: number | string;
}

export interface Shifts {
  readonly interval?: string;
  readonly origin?: string;
  readonly tz?: string;
}

export interface Dashboard {
  readonly version?: 1;
  readonly title: string;
  readonly description?: string;
  readonly shifts?: Shifts;
  readonly equipment?: Readonly<Record<string, Equipment>>;
  readonly tiles: readonly Tile[];
}

const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 };

/** A span in µs; `fallback` for what is none. */
export function spanUs(span: Span | undefined, fallback: Span): number {
  const match = /^([1-9]\d*)([smhd])$/.exec(span ?? fallback) ?? /^([1-9]\d*)([smhd])$/.exec(fallback);
  return match === null ? 0 : Number(match[1]) * UNITS[match[2] as keyof typeof UNITS] * 1e6;
}

export const DEFAULT_SPANS = { sparkline: '1h', trend: '1h', states: '8h', alarms: '1h' } as const;

/** How large a new tile is. */
const SIZES: Record<TileType, readonly [number, number]> = {
  value: [3, 2],
  gauge: [3, 4],
  sparkline: [3, 2],
  trend: [6, 4],
  states: [12, 2],
  alarms: [4, 4],
  text: [12, 1],
  kpi: [3, 3],
};

export const TILE_TYPES = Object.keys(SIZES) as TileType[];

/** A tile of a type that asks for nothing yet, in a corner. */
export function newTile(type: TileType, equipment: string): Tile {
  const [w, h] = SIZES[type];
  const place = { x: 0, y: 0, w, h };
  switch (type) {
    case 'value':
    case 'gauge':
    case 'sparkline':
      return { type, ...place, tag: '' };
    case 'trend':
    case 'states':
      return { type, ...place, tags: [] };
    case 'alarms':
      return { type, ...place, rules: [{ tags: '' }] };
    case 'text':
      return { type, ...place, text: '', heading: true };
    case 'kpi':
      return { type, ...place, equipment, show: 'oee' };
  }
}
