/** The value axes of the strips: where they stand beside the plot, their ticks, labels and grid. uPlot has the time axis. Widths in CSS pixels, areas in those of the canvas. */
import { decimalsOfStep, formatNumber } from '../ui/format';
import { cssColor, currentTheme, penInk } from '../ui/theme';
import { type Scale, type Strip, ticks } from './scales';

/** Larger on a wall of 4K that does not say so, as page.css has it for the rest. */
export const WALL = typeof matchMedia !== 'undefined' && matchMedia('(min-width: 2800px) and (min-height: 1400px)').matches ? 1.7 : 1;
// whole pixels: uPlot reads no others
export const FONT = `${Math.round(11 * WALL)}px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif`;
const CHARACTER = 6.4 * WALL;
const LABEL = 16 * WALL;
const TICK_SPACE = 34 * WALL;
/** Between strips. */
const GAP = 9;
/** Of a side without an axis. */
const EMPTY = 18;

export interface Area {
  readonly top: number;
  readonly height: number;
}

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** An axis beside its strip: on the left or right, and how far out. */
interface Placed {
  readonly scale: Scale;
  readonly right: boolean;
  readonly slot: number;
  readonly labels: { text: string; part: number }[];
  readonly width: number;
}

/** A font in the pixels of the canvas. */
export function scaled(font: string, ratio: number): string {
  return font.replace(/(\d+(?:\.\d+)?)px/, (_, size: string) => `${Number(size) * ratio}px`);
}

/** One below the other, of equal height. */
export function areas(box: Box, count: number, ratio: number): Area[] {
  const gap = count > 1 ? GAP * ratio : 0;
  const height = (box.height - gap * (count - 1)) / count;
  return Array.from({ length: count }, (_, i) => ({ top: box.top + i * (height + gap), height }));
}

export class Axes {
  #strips: Placed[][] = [];
  #widths: { left: number[]; right: number[] } = { left: [], right: [] };

  /** Take the ranges in. `shown`: axes of a strip at the most; `height` of all strips in CSS pixels. */
  set(strips: readonly Strip[], shown: number, height: number): void {
    const each = height / Math.max(1, strips.length);
    this.#strips = strips.map((strip) =>
      strip.scales.slice(0, shown).map((scale, i) => {
        const { values, step } = ticks(scale.range, Math.min(14, each / TICK_SPACE));
        const decimals = decimalsOfStep(step);
        const [low, high] = scale.range;
        const labels = scale.pens.length === 0 ? [] : values.map((value) => ({ text: formatNumber(value, decimals), part: (value - low) / (high - low) }));
        const width = 10 + CHARACTER * Math.max(3, ...labels.map(({ text }) => text.length)) + (scale.label === '' ? 0 : LABEL);
        return { scale, right: i % 2 === 1, slot: i >> 1, labels, width };
      }),
    );
    this.#widths = { left: [], right: [] };
    for (const axis of this.#strips.flat()) {
      const side = axis.right ? this.#widths.right : this.#widths.left;
      side[axis.slot] = Math.max(side[axis.slot] ?? 0, axis.width);
    }
  }

  get left(): number {
    return Math.max(EMPTY, sum(this.#widths.left));
  }

  get right(): number {
    return Math.max(EMPTY, sum(this.#widths.right));
  }

  draw(ctx: CanvasRenderingContext2D, box: Box, at: readonly Area[], ratio: number): void {
    const muted = cssColor('--text-2');
    const grid = cssColor('--grid');
    ctx.save();
    ctx.lineWidth = ratio;
    ctx.textBaseline = 'middle';
    this.#strips.forEach((axes, i) => {
      const area = at[i];
      if (area === undefined) return;
      const y = (part: number): number => Math.round(area.top + area.height * (1 - part)) + 0.5;
      ctx.strokeStyle = grid;
      ctx.beginPath();
      if (at.length > 1) ctx.rect(box.left, Math.round(area.top) + 0.5, box.width, Math.round(area.height));
      for (const { part } of axes[0]?.labels ?? []) {
        ctx.moveTo(box.left, y(part));
        ctx.lineTo(box.left + box.width, y(part));
      }
      ctx.stroke();
      for (const axis of axes) {
        const before = sum((axis.right ? this.#widths.right : this.#widths.left).slice(0, axis.slot));
        const out = axis.right ? 1 : -1;
        const edge = (axis.right ? box.left + box.width : box.left) + out * before * ratio;
        ctx.fillStyle = axis.scale.pens.length === 1 ? penInk(currentTheme(), axis.scale.pens[0]!.color) : muted;
        ctx.font = scaled(FONT, ratio);
        ctx.textAlign = axis.right ? 'left' : 'right';
        ctx.beginPath();
        let below = Infinity;
        for (const { text, part } of axis.labels) {
          // in low strips not all have room
          if (below - y(part) < 11 * ratio) continue;
          below = y(part);
          ctx.fillText(text, edge + out * 8 * ratio, y(part));
          ctx.moveTo(edge + out * ratio, y(part));
          ctx.lineTo(edge + out * 5 * ratio, y(part));
        }
        ctx.stroke();
        if (axis.scale.label === '') continue;
        const width = (axis.right ? this.#widths.right : this.#widths.left)[axis.slot] ?? 0;
        ctx.save();
        ctx.translate(edge + out * (width - LABEL / 2) * ratio, area.top + area.height / 2);
        ctx.rotate((out * Math.PI) / 2);
        ctx.font = scaled(`600 ${FONT}`, ratio);
        ctx.textAlign = 'center';
        ctx.fillText(axis.scale.label, 0, 0, area.height);
        ctx.restore();
      }
    });
    ctx.restore();
  }
}

function sum(widths: readonly number[]): number {
  return widths.reduce((total, width) => total + width, 0);
}
