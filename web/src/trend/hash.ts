/** What the page shows, in the hash of its address: pens with their colours, span or window, scales. */
import type { Scaling } from '../chart/chart';
import { MAX_PENS, type PenChoice } from '../pens/pen';
import { clampSpan, DEFAULT_SPAN, type Window } from '../time/spans';

export interface PageState {
  readonly pens: readonly PenChoice[];
  /** of the live window, µs */
  readonly span: number;
  /** set while paused, µs */
  readonly window: Window | null;
  readonly scaling: Scaling;
}

export function formatHash(state: PageState): string {
  const parts = state.pens.map(({ path, color, calculated }) => `${calculated ? 'calc' : 'pen'}=${encodeURIComponent(path).replaceAll('%2F', '/')}~${color}`);
  if (state.window === null) parts.push(`span=${Math.round(state.span / 1e6)}`);
  else parts.push(`from=${Math.round(state.window.from)}`, `to=${Math.round(state.window.to)}`);
  if (state.scaling !== 'auto') parts.push(`scale=${state.scaling}`);
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
    const [, path = '', color] = /^(.*?)(?:~(\d+))?$/.exec(raw) ?? [];
    if (path === '' || pens.size >= MAX_PENS) continue;
    const choice = { path: decode(path), color: color === undefined ? pens.size : Number(color) % MAX_PENS };
    pens.set(`${key} ${choice.path}`, key === 'calc' ? { ...choice, calculated: true } : choice);
  }
  const from = Number(values.get('from') ?? NaN);
  const to = Number(values.get('to') ?? NaN);
  const span = Number(values.get('span') ?? NaN) * 1e6;
  const scaling = values.get('scale');
  return {
    pens: pens.size > 0 ? [...pens.values()] : null,
    span: span > 0 && Number.isFinite(span) ? clampSpan(span) : DEFAULT_SPAN,
    window: Number.isFinite(from) && Number.isFinite(to) && from < to ? { from, to } : null,
    scaling: scaling === 'range' || scaling === 'percent' ? scaling : 'auto',
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
