/** Values and qualities in words, in the language of the page. Groups of three digits are set apart by a narrow blank in every language: where commas are decimal signs, a point would be misread. */
import type { Tag } from '../data/protocol';
import { GOOD, type Sample, type Store, UNCERTAIN } from '../data/store';
import { decimalSign } from './language';
import { text } from './strings';

export function qualityName(quality: number): 'good' | 'uncertain' | 'bad' {
  return quality >= GOOD ? 'good' : quality >= UNCERTAIN ? 'uncertain' : 'bad';
}

/** A number with so many decimals; without, as many as its size lets one read. */
export function formatNumber(value: number, decimals?: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e12 || size < 1e-6)) return value.toExponential(3).replace('.', decimalSign);
  const shown = decimals ?? (size >= 1000 ? 1 : size >= 10 ? 2 : 4);
  const [whole = '', fraction] = value.toFixed(shown).split('.');
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f') : whole;
  return (fraction === undefined ? grouped : `${grouped}${decimalSign}${fraction}`).replace(/^-(?=[0.,]+$)/, '').replace('-', '\u2212');
}

/** The decimals that the values of a tag have: what its transmitter gives. Values that were computed have all of them: then three. A few dozen tell. */
export function decimalsOf(store: Store): number {
  let most = 0;
  const stride = Math.max(1, Math.floor(store.length / 60));
  for (let i = store.length - 1; i >= 0 && most < 7; i -= stride) {
    const value = store.value(i);
    if (!Number.isFinite(value)) continue;
    let decimals = most;
    while (decimals < 7 && Math.abs(Number(value.toFixed(decimals)) - value) > Math.abs(value) * 1e-12) decimals++;
    most = decimals;
  }
  return most > 6 ? 3 : most;
}

/** The decimals of ticks that stand so far apart. */
export function decimalsOfStep(step: number): number {
  for (let decimals = 0; decimals < 9; decimals++) if (Math.abs(Number(step.toFixed(decimals)) - step) < step * 1e-6) return decimals;
  return 9;
}

/** The value of a sample of a tag: a number, the name of a state, a text. */
export function formatSample(tag: Tag, sample: Sample | null, decimals?: number): string {
  if (sample === null) return '–';
  if (tag.kind === 'text') return sample.text ?? '–';
  if (Number.isNaN(sample.value)) return '–';
  if (tag.kind === 'digital') return tag.states?.[String(sample.value)] ?? String(sample.value);
  if (tag.kind === 'bool') return text.truth[sample.value ? 'true' : 'false'];
  return formatNumber(sample.value, tag.kind === 'int' ? 0 : decimals);
}
