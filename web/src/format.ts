/** Values and qualities in words. */
import type { Tag } from './protocol';
import { GOOD, type Sample, UNCERTAIN } from './store';

export function qualityName(quality: number): 'good' | 'uncertain' | 'bad' {
  return quality >= GOOD ? 'good' : quality >= UNCERTAIN ? 'uncertain' : 'bad';
}

/** Five significant digits, and no more decimals than help. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString('en').replaceAll(',', '\u202f');
  if (size !== 0 && (size >= 1e9 || size < 1e-4)) return value.toExponential(3);
  const decimals = Math.min(6, Math.max(0, 4 - Math.floor(Math.log10(size))));
  return value.toFixed(Math.min(decimals, size >= 1 ? 3 : 5));
}

/** The value of a sample of a tag: a number, the name of a state, a text. */
export function formatSample(tag: Tag, sample: Sample | null): string {
  if (sample === null) return '–';
  if (tag.kind === 'text') return sample.text ?? '–';
  if (Number.isNaN(sample.value)) return '–';
  if (tag.kind === 'digital') return tag.states?.[String(sample.value)] ?? String(sample.value);
  if (tag.kind === 'bool') return sample.value ? 'true' : 'false';
  return formatNumber(sample.value);
}
