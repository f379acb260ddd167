/** Lanes of states and texts above the lines. */
import { formatSample } from '../ui/format';
import type { Pen } from '../pens/pen';
import { lastLevel, parentPath } from '../tags/tree';
import type { Window } from '../time/spans';
import { cssColor, currentTheme, penColor } from '../ui/theme';
import { type Box, FONT, WALL } from './axes';
import { stretches } from './trace';

/** CSS pixels of a lane with its name, and of its band. */
export const LANE = 31 * WALL;
const BAND = 17;
const FACE = FONT.slice(FONT.indexOf(' '));

export interface LaneOptions {
  readonly window: Window;
  readonly holdsTo: number;
  readonly highlight: Pen | null;
  readonly x: (ts: number) => number;
  readonly ratio: number;
}

export function drawLanes(ctx: CanvasRenderingContext2D, box: Box, pens: readonly Pen[], options: LaneOptions): void {
  const { window, holdsTo, highlight, x } = options;
  const ratio = options.ratio * WALL;
  const theme = currentTheme();
  const [text, muted, ground] = [cssColor('--text'), cssColor('--text-2'), cssColor('--lane')];
  ctx.save();
  ctx.beginPath();
  ctx.rect(box.left, 0, box.width, box.top);
  ctx.clip();
  ctx.textAlign = 'left';
  ctx.textBaseline = 'middle';
  pens.forEach((pen, i) => {
    const top = 4 * ratio + i * LANE * options.ratio;
    const band = top + 12 * ratio;
    const height = BAND * ratio;
    const color = penColor(theme, pen.color);
    ctx.globalAlpha = 1;
    ctx.font = `${10 * ratio}px${FACE}`;
    ctx.fillStyle = muted;
    const parent = lastLevel(parentPath(pen.path));
    ctx.fillText(parent === '' ? pen.path : `${parent} / ${lastLevel(pen.path)}`, box.left + 2 * ratio, top + 5 * ratio);
    ctx.fillStyle = ground;
    ctx.fillRect(box.left, band, box.width, height);
    ctx.font = `${11 * ratio}px${FACE}`;
    const raised = highlight === pen;
    for (const stretch of stretches(pen.shown, window, holdsTo)) {
      const from = Math.max(box.left, x(stretch.from));
      const width = Math.min(box.left + box.width, x(stretch.to)) - from;
      if (width <= 0) continue;
      const off = pen.tag.kind !== 'text' && pen.shown.value(stretch.at) === 0;
      ctx.globalAlpha = off ? 0.12 : raised ? 0.55 : 0.34;
      ctx.fillStyle = color;
      ctx.fillRect(from, band, Math.max(width, ratio), height);
      ctx.globalAlpha = 1;
      ctx.fillRect(from, band, 2 * ratio, height);
      if (!off) ctx.fillRect(from, band, Math.max(width, ratio), 1.5 * ratio);
      const label = formatSample(pen.tag, pen.shown.at(stretch.at));
      if (ctx.measureText(label).width + 12 * ratio <= width) {
        ctx.fillStyle = off ? muted : text;
        ctx.fillText(label, from + 7 * ratio, band + height / 2 + ratio);
      }
    }
    if (pen.earlier !== null) {
      // an earlier period: a thin line of its states below the band
      for (const stretch of stretches(pen.earlier, window, window.to)) {
        if (pen.tag.kind !== 'text' && pen.earlier.value(stretch.at) === 0) continue;
        const from = Math.max(box.left, x(stretch.from));
        ctx.globalAlpha = 0.7;
        ctx.fillStyle = color;
        ctx.fillRect(from, band + height - 2.5 * ratio, Math.max(ratio, x(stretch.to) - from - ratio), 2.5 * ratio);
      }
    }
  });
  ctx.restore();
}
