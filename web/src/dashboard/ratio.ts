/** What a ratio is by its target: good, a warning or an alarm. */
import type { Level } from '../data/limits';

/** It is good from `target` on, and bad below `alarm`. */
export function judgeRatio(value: number, target: number | undefined, alarm: number | undefined): Level | 'good' {
  if (Number.isNaN(value)) return 'none';
  if (alarm !== undefined && value < alarm) return 'alarm';
  if (target === undefined) return 'none';
  return value >= target ? 'good' : 'warning';
}
