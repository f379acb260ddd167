/** Ticks at round numbers and round times. */
import { DAY, HOUR, MINUTE, SECOND } from '../time/spans';

const STEPS = [1, 2, 5, 10, 15, 30].map((n) => n * SECOND).concat(
  [1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  [1, 2, 3, 6, 12].map((n) => n * HOUR),
  [1, 2, 7, 14, 28, 91, 182, 365].map((n) => n * DAY),
);

/** The step between ticks of a span in which `count` have room at the most, µs. */
export function timeStep(span: number, count: number): number {
  return STEPS.find((step) => span / step <= count) ?? STEPS.at(-1)!;
}

/** The ticks in [from, to], at round times of the browser's zone. */
export function timeTicks(from: number, to: number, step: number, offsetUs = -new Date(from / 1000).getTimezoneOffset() * MINUTE): number[] {
  const ticks: number[] = [];
  for (let tick = Math.ceil((from + offsetUs) / step) * step - offsetUs; tick <= to; tick += step) ticks.push(tick);
  return ticks;
}

/** The step between ticks of a range in which `count` have room at the most. */
export function valueStep(range: number, count: number): number {
  const power = 10 ** Math.floor(Math.log10(range / Math.max(1, count)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => range / step <= count) ?? 20 * power;
}

export function valueTicks(low: number, high: number, step: number): number[] {
  const ticks: number[] = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) ticks.push(n * step);
  return ticks;
}
