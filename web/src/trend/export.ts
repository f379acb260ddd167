/** Takes what is seen out of the page: the picture as PNG, the samples of the window as CSV or Parquet. */
import { address, get, token } from '../data/api';
import type { Pen } from '../pens/pen';
import { day, isoDay, isoTime, timeOfDay, type Window } from '../time/spans';
import { el } from '../ui/dom';
import { formatNumber, formatSample } from '../ui/format';
import { cssColor, currentTheme, penColor } from '../ui/theme';

const LINE = 20;

/** `trend-2026-03-01T060000` */
export function fileName(window: Window): string {
  return `trend-${isoDay(window.from)}T${isoTime(window.from).replaceAll(':', '')}`;
}

/** The query of all samples of the pens in a window. */
export function exportQuery(pens: readonly Pen[], window: Window, format: 'csv' | 'parquet'): string {
  const query = new URLSearchParams(pens.map((pen) => (pen.expression === null ? ['tag', pen.path] : ['expr', pen.expression])));
  query.set('start', String(Math.floor(window.from)));
  query.set('end', String(Math.ceil(window.to)));
  query.set('format', format);
  return `v1/range?${query.toString()}`;
}

/** Save all samples of a window. Throws Problem, TypeError. */
export async function saveSamples(pens: readonly Pen[], window: Window, format: 'csv' | 'parquet'): Promise<void> {
  const name = `${fileName(window)}.${format}`;
  const query = exportQuery(pens, window, format);
  // straight to the disk, however large; but a link has no place for a token
  if (token() === null) save(address(query).href, name);
  else saveBlob(await (await get(query)).blob(), name);
}

/** Save the chart, with a legend of its pens below. */
export function savePicture(chart: HTMLCanvasElement, pens: readonly Pen[], window: Window): void {
  const ratio = devicePixelRatio;
  const canvas = el('canvas', { width: chart.width, height: chart.height + (pens.length * LINE + 34) * ratio });
  const context = canvas.getContext('2d');
  if (context === null) return;
  context.fillStyle = cssColor('--ground');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(chart, 0, 0);
  context.scale(ratio, ratio);
  context.font = '12px system-ui, "Segoe UI", Roboto, sans-serif';
  context.textBaseline = 'middle';
  let y = chart.height / ratio + 12;
  context.fillStyle = cssColor('--text-2');
  context.fillText(`${day(window.from)} ${timeOfDay(window.from)} – ${day(window.to)} ${timeOfDay(window.to)}`, 16, y);
  for (const pen of pens) {
    y += LINE;
    context.fillStyle = penColor(currentTheme(), pen.color);
    context.fillRect(16, y - 5, 10, 10);
    context.fillStyle = cssColor('--text');
    const last = pen.shown.at(pen.shown.before(window.to));
    const value = last === null || pen.lane || pen.tag.kind === 'int' ? formatSample(pen.tag, last) : formatNumber(last.value);
    context.fillText(`${pen.path}   ${value} ${pen.tag.unit ?? ''}`, 34, y);
  }
  canvas.toBlob((blob) => blob !== null && saveBlob(blob, `${fileName(window)}.png`), 'image/png');
}

function saveBlob(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  save(url, name);
  // the browser has begun to read it by then
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function save(href: string, name: string): void {
  el('a', { href, download: name }).click();
}
