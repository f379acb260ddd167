/** Limits and ranges as bands behind the lines. */
import { zonesOf } from '../data/limits';
import type { Pen } from '../pens/pen';
import { currentTheme, penColor, cssColor } from '../ui/theme';
import { type Area, type Box, FONT, scaled } from './axes';
import { rangeOf } from './scales';

const COLORS = { warning: '--warn', alarm: '--bad' } as const;

/** Beyond its limits the ground is tinted, with a dashed line and a mark at each. `y` from a value of the pen to the canvas. */
export function drawLimits(ctx: CanvasRenderingContext2D, box: Box, area: Area, pen: Pen, y: (value: number) => number, ratio: number): void {
  const bottom = area.top + area.height;
  const clamp = (at: number): number => Math.max(area.top, Math.min(bottom, at));
  ctx.save();
  ctx.strokeStyle = penColor(currentTheme(), pen.color);
  ctx.lineWidth = ratio;
  ctx.setLineDash([6 * ratio, 4 * ratio]);
  ctx.font = scaled(`600 ${FONT}`.replace('11px', '10px'), ratio);
  ctx.textAlign = 'right';
  for (const { mark, level, limit, to } of zonesOf(pen.limits)) {
    const outwards = to < limit ? bottom : area.top;
    const at = clamp(y(limit));
    const edge = Number.isFinite(to) ? clamp(y(to)) : outwards;
    ctx.fillStyle = cssColor(COLORS[level]);
    ctx.globalAlpha = 0.1;
    ctx.fillRect(box.left, Math.min(at, edge), box.width, Math.abs(at - edge));
    if (at === area.top || at === bottom) continue;
    ctx.globalAlpha = 0.9;
    ctx.beginPath();
    ctx.moveTo(box.left, at);
    ctx.lineTo(box.left + box.width, at);
    ctx.stroke();
    // on the outer side of its line, where there is room
    if (Math.abs(at - outwards) < 12 * ratio) continue;
    ctx.textBaseline = outwards < at ? 'bottom' : 'top';
    ctx.fillText(mark, box.left + box.width - 4 * ratio, at + (outwards < at ? -2 : 2) * ratio);
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
