/** What the page shows, in the hash of its address: pens and how they are drawn, span or window, scales, strips, cursors, comparison. */
import type { Cursors } from '../chart/cursors';
import type { Layout, Scaling } from '../chart/scales';
import { MAX_PENS, type PenChoice } from '../pens/pen';
import { clampSpan, DEFAULT_SPAN, type Window } from '../time/spans';

export interface PageState {
  readonly pens: readonly PenChoice[];
  /** of the live window, µs */
  readonly span: number;
  /** set while paused, µs */
  readonly window: Window | null;
  readonly scaling: Scaling;
  readonly layout: Layout;
  readonly cursors: Cursors | null;
  /** how much earlier the period is that is compared with, µs; 0: none */
  readonly compare: number;
}

/** `path~3,own,low:5,high:8.5`: colour, a scale of its own, limits. */
function formatPen({ path, calculated, color, own, low, high }: PenChoice): string {
  const style = [String(color), own ? 'own' : '', low === undefined ? '' : `low:${low}`, high === undefined ? '' : `high:${high}`].filter(Boolean).join(',');
  return `${calculated ? 'calc' : 'pen'}=${encodeURIComponent(path).replaceAll('%2F', '/')}~${style}`;
}

export function formatHash(state: PageState): string {
  const parts = state.pens.map(formatPen);
  if (state.window === null) parts.push(`span=${Math.round(state.span / 1e6)}`);
  else parts.push(`from=${Math.round(state.window.from)}`, `to=${Math.round(state.window.to)}`);
  if (state.scaling !== 'auto') parts.push(`scale=${state.scaling}`);
  if (state.layout !== 'overlay') parts.push(`axes=${state.layout}`);
  if (state.cursors !== null) parts.push(`cursors=${Math.round(state.cursors.a)},${Math.round(state.cursors.b)}`);
  if (state.compare > 0) parts.push(`compare=${state.compare / 1e6}`);
  return `#${parts.join('&')}`;
}

/** What a hash says; what it does not say, or says wrongly, takes its default. `pens` is null where it names none. */
export function parseHash(hash: string): Omit<PageState, 'pens'> & { pens: readonly PenChoice[] | null } {
  const pens = new Map<string, PenChoice>();
  const values = new Map<string, string>();
  for (const part of hash.replace(/^#/, '').split('&')) {
    const [key = '', raw = ''] = [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)];
    if (key !== 'pen' && key !== 'calc') {
      values.set(key, raw);
      continue;
    }
    const [, path = '', color, style = ''] = /^(.*?)(?:~(\d+)((?:,[a-z]+(?::[^,]*)?)*))?$/.exec(raw) ?? [];
    if (path === '' || pens.size >= MAX_PENS) continue;
    const choice = { path: decode(path), color: color === undefined ? pens.size : Number(color) % MAX_PENS, ...parseStyle(style) };
    pens.set(`${key} ${choice.path}`, key === 'calc' ? { ...choice, calculated: true } : choice);
  }
  const number = (key: string): number => Number(values.get(key) ?? NaN);
  const [from, to, span, compare] = [number('from'), number('to'), number('span') * 1e6, number('compare') * 1e6];
  const [a = NaN, b = NaN] = (values.get('cursors') ?? '').split(',').map(Number);
  const [scaling, layout] = [values.get('scale'), values.get('axes')];
  return {
    pens: pens.size > 0 ? [...pens.values()] : null,
    span: span > 0 && Number.isFinite(span) ? clampSpan(span) : DEFAULT_SPAN,
    window: Number.isFinite(from) && Number.isFinite(to) && from < to ? { from, to } : null,
    scaling: scaling === 'range' || scaling === 'percent' ? scaling : 'auto',
    layout: layout === 'units' || layout === 'pens' ? layout : 'overlay',
    cursors: Number.isFinite(a) && Number.isFinite(b) ? { a, b } : null,
    compare: compare > 0 && Number.isFinite(compare) ? compare : 0,
  };
}

function parseStyle(style: string): { own?: true; low?: number; high?: number } {
  const parts = new Map(style.split(',').map((part) => [part.split(':')[0] ?? '', part.split(':')[1]]));
  const limit = (name: 'low' | 'high'): { [name in 'low' | 'high']?: number } => {
    const value = parts.get(name);
    return value && Number.isFinite(Number(value)) ? { [name]: Number(value) } : {};
  };
  return { ...(parts.has('own') ? { own: true as const } : {}), ...limit('low'), ...limit('high') };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
