/** Limits and ranges as bands behind the lines. */
import type { Pen } from '../pens/pen';
import { currentTheme, penColor, cssColor } from '../ui/theme';
import type { Area, Box } from './axes';
import { rangeOf } from './scales';

/** Beyond its limits the ground is tinted, with a dashed line at each. `y` from a value of the pen to the canvas. */
export function drawLimits(ctx: CanvasRenderingContext2D, box: Box, area: Area, pen: Pen, y: (value: number) => number, ratio: number): void {
  const { low, high } = pen.style;
  const bottom = area.top + area.height;
  const clamp = (at: number): number => Math.max(area.top, Math.min(bottom, at));
  ctx.save();
  ctx.fillStyle = cssColor('--bad');
  ctx.strokeStyle = penColor(currentTheme(), pen.color);
  ctx.lineWidth = ratio;
  ctx.setLineDash([6 * ratio, 4 * ratio]);
  for (const [limit, edge] of [
    [high, area.top],
    [low, bottom],
  ] as const) {
    if (limit === undefined) continue;
    const at = clamp(y(limit));
    ctx.globalAlpha = 0.1;
    ctx.fillRect(box.left, Math.min(at, edge), box.width, Math.abs(at - edge));
    if (at === area.top || at === bottom) continue;
    ctx.globalAlpha = 0.9;
    ctx.beginPath();
    ctx.moveTo(box.left, at);
    ctx.lineTo(box.left + box.width, at);
    ctx.stroke();
  }
  ctx.restore();
}

/** The range of a tag, tinted in the colour of its pen. */
export function drawRange(ctx: CanvasRenderingContext2D, box: Box, area: Area, pen: Pen, y: (value: number) => number): void {
  const range = rangeOf(pen);
  if (range === null) return;
  const top = Math.max(area.top, y(range.max));
  const bottom = Math.min(area.top + area.height, y(range.min));
  // one that fills all of the strip tells nothing
  if (bottom <= top || (top === area.top && bottom === area.top + area.height)) return;
  ctx.save();
  ctx.globalAlpha = 0.06;
  ctx.fillStyle = penColor(currentTheme(), pen.color);
  ctx.fillRect(box.left, top, box.width, bottom - top);
  ctx.restore();
}
