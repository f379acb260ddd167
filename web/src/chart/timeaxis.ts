/** The time axis, which uPlot draws. Its x is in seconds, ours in µs. */
import type uPlot from 'uplot';
import { tickLabel } from '../time/spans';
import { cssColor } from '../ui/theme';
import { FONT, WALL } from './axes';

/** Between the ticks of the time axis, in seconds. */
const TIME_STEPS = [
  ...[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60),
  ...[1, 2, 3, 6, 12].map((hours) => hours * 3600),
  ...[1, 2, 7, 14, 28, 91, 182, 365, 730].map((days) => days * 86_400),
];

/** `from`: where the window begins, in µs: the first tick behind it has the date. */
export function timeAxis(from: () => number): uPlot.Axis {
  const line = cssColor('--grid');
  return {
    stroke: cssColor('--text-2'),
    font: FONT,
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line, width: 1, size: 5 },
    size: 40 * WALL,
    space: 74 * WALL,
    incrs: TIME_STEPS,
    values: (_u, splits, _axis, _space, increment) =>
      splits.map((s, i) => {
        const previous = splits[i - 1];
        return tickLabel(Math.round(s * 1e6), increment * 1e6, previous === undefined || previous * 1e6 < from() ? null : Math.round(previous * 1e6));
      }),
  };
}
