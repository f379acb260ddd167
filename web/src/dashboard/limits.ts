/** What a value is by its limits, or a state by its name: good, a warning or an alarm. */
export interface Limits {
  readonly low_low?: number;
  readonly low?: number;
  readonly high?: number;
  readonly high_high?: number;
}

export type Level = 'none' | 'warning' | 'alarm';

/** The level, and which limit it is that was passed: colours alone tell nothing to many. */
export interface Judged {
  readonly level: Level;
  readonly mark: '' | 'LL' | 'L' | 'H' | 'HH';
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

/** Of a ratio, which is good from `target` on and bad below `alarm`. */
export function judgeRatio(value: number, target: number | undefined, alarm: number | undefined): Level | 'good' {
  if (Number.isNaN(value)) return 'none';
  if (alarm !== undefined && value < alarm) return 'alarm';
  if (target === undefined) return 'none';
  return value >= target ? 'good' : 'warning';
}
