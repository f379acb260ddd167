/** Lines over time, with or without axes, and bands of states: on a canvas, from the stores. Times are µs. */
import { extent, niceRange, stretches, trace } from '../chart/trace';
import { decimalsOfStep, formatNumber, formatSample } from '../ui/format';
import { tickLabel, type Window } from '../time/spans';
import { cssColor, currentTheme, lineScale, penColor } from '../ui/theme';
import { stateName } from './alarms';
import { timeStep, timeTicks, valueStep, valueTicks } from './axes';
import type { Canvas } from './canvas';
import type { Series } from './feed';
import type { Limits } from '../data/limits';

export interface Line {
  readonly series: Series;
  /** index in the palette */
  readonly color: number;
}

export interface LineOptions {
  readonly window: Window;
  readonly now: number;
  readonly axes: boolean;
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly limits?: Limits | undefined;
}

const TIME_AXIS = 18;

export function drawLines(canvas: Canvas, lines: readonly Line[], { window, now, axes, min, max, limits }: LineOptions): void {
  const ctx = canvas.begin();
  if (ctx === null) return;
  const theme = currentTheme();
  const [low, high] = range(lines, window, min, max);
  const bottom = canvas.height - (axes ? TIME_AXIS : 2);
  const top = axes ? 8 : 3;
  const step = valueStep(high - low, Math.max(3, Math.floor((bottom - top) / 26)));
  const ticks = axes ? valueTicks(low, high, step) : [];
  const labels = ticks.map((tick) => formatNumber(tick, decimalsOfStep(step)));
  const left = axes ? Math.max(...labels.map((label) => ctx.measureText(label).width), 0) + 8 : 0;
  const right = canvas.width - (axes ? 6 : 4);
  const x = (ts: number): number => left + ((ts - window.from) / (window.to - window.from)) * (right - left);
  const y = (value: number): number => bottom - ((value - low) / (high - low)) * (bottom - top);
  if (axes) {
    ctx.strokeStyle = cssColor('--grid');
    ctx.fillStyle = cssColor('--text-2');
    ctx.textAlign = 'right';
    ctx.textBaseline = 'middle';
    ticks.forEach((tick, i) => {
      line(ctx, left, y(tick), right, y(tick));
      ctx.fillText(labels[i]!, left - 5, y(tick));
    });
    drawTimes(ctx, window, x, top, bottom, left, right);
  }
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, 0, right - left + 4, bottom + 2);
  ctx.clip();
  for (const [name, color] of [['low_low', '--bad'], ['high_high', '--bad'], ['low', '--warn'], ['high', '--warn']] as const) {
    const limit = limits?.[name];
    if (limit === undefined || limit < low || limit > high) continue;
    ctx.strokeStyle = cssColor(color);
    ctx.setLineDash([4, 4]);
    line(ctx, left, y(limit), right, y(limit));
    ctx.setLineDash([]);
  }
  ctx.lineJoin = 'bevel';
  for (const { series, color } of lines) {
    const { tag, store } = series;
    ctx.strokeStyle = ctx.fillStyle = penColor(theme, color);
    ctx.lineWidth = 1.6 * lineScale();
    ctx.beginPath();
    trace(ctx, store, { window, step: tag.step, holdsTo: now, x, y });
    ctx.stroke();
    const last = store.length - 1;
    if (last < 0 || store.bad(last)) continue;
    ctx.beginPath();
    ctx.arc(x(tag.step ? Math.min(now, window.to) : store.ts(last)), y(store.value(last)), 2.6, 0, 2 * Math.PI);
    ctx.fill();
  }
  ctx.restore();
}

/** What is seen, or what was asked for. */
function range(lines: readonly Line[], window: Window, min: number | undefined, max: number | undefined): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const { series } of lines) {
    const seen = extent(series.store, window, series.tag.step);
    if (seen === null) continue;
    low = Math.min(low, seen.min);
    high = Math.max(high, seen.max);
  }
  const [niceLow, niceHigh] = low <= high ? niceRange(low, high) : [0, 1];
  const [from, to] = [min ?? niceLow, max ?? niceHigh];
  return from < to ? [from, to] : [from - 0.5, from + 0.5];
}

function drawTimes(ctx: CanvasRenderingContext2D, window: Window, x: (ts: number) => number, top: number, bottom: number, left: number, right: number): void {
  const step = timeStep(window.to - window.from, Math.max(2, Math.floor((right - left) / 76)));
  ctx.strokeStyle = cssColor('--grid');
  ctx.fillStyle = cssColor('--text-2');
  ctx.textBaseline = 'alphabetic';
  for (const tick of timeTicks(window.from, window.to, step)) {
    const at = x(tick);
    line(ctx, at, top, at, bottom);
    const label = tickLabel(tick, step, tick).split('\n')[0]!;
    const half = ctx.measureText(label).width / 2;
    if (at - half < left - 4 || at + half > right + 4) continue;
    ctx.textAlign = 'center';
    ctx.fillText(label, at, bottom + 14);
  }
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** A band for each tag: its states, by colour and, where there is room, by name. */
export function drawBands(canvas: Canvas, bands: readonly { series: Series | null; label: string }[], window: Window, now: number): void {
  const ctx = canvas.begin();
  if (ctx === null || bands.length === 0) return;
  const theme = currentTheme();
  const bottom = canvas.height - TIME_AXIS;
  const left = bands.length > 1 ? Math.min(canvas.width / 3, Math.max(...bands.map(({ label }) => ctx.measureText(label).width)) + 10) : 2;
  const right = canvas.width - 6;
  const x = (ts: number): number => left + ((ts - window.from) / (window.to - window.from)) * (right - left);
  drawTimes(ctx, window, x, 0, bottom, left, right);
  const each = bottom / bands.length;
  const height = Math.min(34, Math.max(6, each - 6));
  bands.forEach(({ series, label }, n) => {
    const y = n * each + (each - height) / 2;
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    if (bands.length > 1) {
      ctx.fillStyle = cssColor('--text-2');
      ctx.fillText(label, 0, y + height / 2, left - 6);
    }
    ctx.fillStyle = cssColor('--lane');
    ctx.fillRect(left, y, right - left, height);
    if (series === null) return;
    const { tag, store } = series;
    for (const { from, to, at } of stretches(store, window, now)) {
      const name = stateName(tag, store.value(at), store.text(at));
      const [start, end] = [Math.max(left, x(from)), Math.min(right, x(to))];
      ctx.fillStyle = stateColor(name, tag.states === null ? null : Object.values(tag.states), theme);
      ctx.globalAlpha = 0.85;
      ctx.fillRect(start, y, Math.max(1, end - start - 0.5), height);
      ctx.globalAlpha = 1;
      const label = tag.kind === 'bool' ? formatSample(tag, store.at(at)) : name;
      if (height < 12 || end - start < ctx.measureText(label).width + 8) continue;
      ctx.fillStyle = cssColor('--ground');
      ctx.fillText(label, start + 4, y + height / 2 + 0.5);
    }
  });
}

const FAMILIAR: readonly (readonly [RegExp, string])[] = [
  [/^(fault|error|alarm|tripp?ed|failed)/i, '--bad'],
  [/^(running|run|open|on|producing|true)$/i, '--good'],
  [/^(waiting|starved|blocked|starting|stopping|warning|standby)/i, '--warn'],
  [/^(stopped|stop|idle|off|shut|closed|false)$/i, '--text-3'],
];

/** States that plants have everywhere have the colours that one expects; others one of the palette, always the same. */
function stateColor(name: string, states: readonly string[] | null, theme: ReturnType<typeof currentTheme>): string {
  const familiar = FAMILIAR.find(([pattern]) => pattern.test(name));
  if (familiar !== undefined) return cssColor(familiar[1]);
  const place = states?.indexOf(name) ?? -1;
  return penColor(theme, place >= 0 ? place : [...name].reduce((hash, letter) => (hash * 31 + letter.charCodeAt(0)) % 997, 7) % 8);
}
