/** Which pens share a scale, and which scales share a strip of the chart. */
import { Pen } from '../pens/pen';
import { type Extent, niceRange } from './trace';

/** Scales fit what is seen, or are the ranges of the tags, or every pen is drawn in per cent of its range. */
export type Scaling = 'auto' | 'range' | 'percent';
/** All pens over each other, or a strip for each unit, or one for each pen. */
export type Layout = 'overlay' | 'units' | 'pens';

/** Scales stay as they are while what is seen takes up this part of them. */
const STEADY = 0.6;

/** A scale with the pens that are drawn on it. */
export interface Scale {
  readonly key: string;
  readonly label: string;
  readonly pens: Pen[];
  range: [number, number];
  /** its range was set by what is seen */
  fitted?: boolean;
}

export interface Strip {
  readonly scales: Scale[];
}

/** The strips from top to bottom; of pens that are lines. There is one at least. */
export function strips(pens: readonly Pen[], layout: Layout, scaling: Scaling): Strip[] {
  const lines = pens.filter((pen) => !pen.lane);
  if (layout === 'pens' && lines.length > 0) {
    return lines.map((pen) => ({ scales: [scaling === 'percent' ? percent([pen]) : scale(`pen ${pen.path}`, pen.tag.unit ?? '', pen)] }));
  }
  if (scaling === 'percent') return [{ scales: [percent(lines)] }];
  const byUnit = new Map<string, Strip>();
  const scales = new Map<string, Scale>();
  for (const pen of lines) {
    // pens without a unit have nothing in common
    const unit = pen.tag.unit === null ? `tag ${pen.path}` : `unit ${pen.tag.unit}`;
    const key = pen.style.own ? `pen ${pen.path}` : unit;
    const shared = scales.get(key);
    if (shared !== undefined) {
      shared.pens.push(pen);
      continue;
    }
    const made = scale(key, pen.tag.unit ?? pen.label, pen);
    scales.set(key, made);
    const strip = layout === 'units' ? byUnit.get(unit) : byUnit.get('');
    if (strip === undefined) byUnit.set(layout === 'units' ? unit : '', { scales: [made] });
    else strip.scales.push(made);
  }
  return byUnit.size > 0 ? [...byUnit.values()] : [{ scales: [{ key: 'none', label: '', pens: [], range: [0, 1] }] }];
}

function scale(key: string, label: string, pen: Pen): Scale {
  return { key, label, pens: [pen], range: [0, 1] };
}

function percent(pens: Pen[]): Scale {
  return { key: 'percent', label: '%', pens, range: [0, 100] };
}

/** The range of a tag, where it has one. */
export function rangeOf({ tag }: Pen): Extent | null {
  const { low, high } = tag;
  return low !== null && high !== null && low < high ? { min: low, max: high } : null;
}

/** Set the range of a scale by what is seen of its pens. */
export function fit(scale: Scale, scaling: Scaling, seen: (pen: Pen) => Extent | null): void {
  if (scaling === 'percent' || scale.pens.length === 0) return;
  let min = Infinity;
  let max = -Infinity;
  for (const pen of scale.pens) {
    const extent = (scaling === 'range' ? rangeOf(pen) : null) ?? seen(pen);
    if (extent === null) continue;
    min = Math.min(min, extent.min);
    max = Math.max(max, extent.max);
  }
  if (min > max) return;
  const [low, high] = scale.range;
  // a scale that moves with every sample can be read by nobody
  if (scaling === 'auto' && scale.fitted && low <= min && max <= high && max - min >= STEADY * (high - low)) return;
  scale.fitted = scaling === 'auto';
  scale.range = scaling === 'range' && min < max && scale.pens.every((pen) => rangeOf(pen) !== null) ? [min, max] : niceRange(min, max);
}

/** From a value to where it stands on its scale: itself, or its part of the range. */
export function normaliser(pen: Pen, scaling: Scaling, seen: (pen: Pen) => Extent | null): (value: number) => number {
  if (scaling !== 'percent') return (value) => value;
  let range = rangeOf(pen) ?? seen(pen);
  if (range === null || range.min === range.max) range = { min: (range?.min ?? 0) - 1, max: (range?.max ?? 0) + 1 };
  const { min, max } = range;
  return (value) => ((value - min) / (max - min)) * 100;
}

/** Round numbers within a range, about `count` of them, and how far they are apart. */
export function ticks([low, high]: readonly [number, number], count: number): { values: number[]; step: number } {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return { values: [], step: 1 };
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5].find((factor) => factor * power >= rough * 0.999) ?? 10) * power;
  const values: number[] = [];
  // + 0: no -0
  const first = Math.ceil(low / step - 1e-9) + 0;
  for (let i = first; i * step <= high + step * 1e-9; i++) values.push(i * step);
  return { values, step };
}
