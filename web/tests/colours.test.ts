import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { contrast as wcag } from '../src/ui/contrast';
import { penInk, PENS, THEMES } from '../src/ui/theme';

type Triple = readonly [number, number, number];
type Matrix = readonly [Triple, Triple, Triple];

/** How linear RGB is seen: by most, and with protanopia, deuteranopia, tritanopia (Machado et al., IEEE TVCG 2009, severity 1). */
const EYES: Record<string, Matrix> = {
  normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
const CONES: Matrix = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]];
const LAB: Matrix = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.808675766]];
const GROUND = { dark: '#0b1016', light: '#f2f4f7', 'contrast-dark': '#000000', 'contrast-light': '#ffffff' };
const LEAST = { dark: 3, light: 3, 'contrast-dark': 7, 'contrast-light': 4.5 };
/** Where text is darkest, or lightest: a line of the table that is pointed at. */
const POINTED = { dark: '#18212b', light: '#f0f3f6', 'contrast-dark': '#000000', 'contrast-light': '#ffffff' };

const times = (m: Matrix, [a, b, c]: Triple): Triple => m.map((row) => row[0] * a + row[1] * b + row[2] * c) as unknown as Triple;
const each = (of: Triple, f: (part: number) => number): Triple => of.map(f) as unknown as Triple;

function linear(hex: string): Triple {
  return each([1, 3, 5] as const, (i) => {
    const part = parseInt(hex.slice(i, i + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
}

function seen(hex: string, eyes: Matrix): Triple {
  const clipped = each(times(eyes, linear(hex)), (part) => Math.min(1, Math.max(0, part)));
  return times(LAB, each(times(CONES, clipped), Math.cbrt));
}

function closest(colors: readonly string[], eyes: Matrix): number {
  const labs = colors.map((color) => seen(color, eyes));
  return Math.min(...labs.flatMap((a, i) => labs.slice(i + 1).map((b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]))));
}

function contrast(a: string, b: string): number {
  const [light, dark] = [a, b].map((hex) => linear(hex)).map(([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b).sort((one, other) => other - one) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

describe.each(THEMES)('pens of the theme %s', (theme) => {
  test.each(Object.entries(EYES))('are told apart by eyes with vision: %s', (_, eyes) => {
    // 0.02 is about what one just notices
    expect(closest(PENS[theme].slice(0, 8), eyes)).toBeGreaterThan(0.08);
    expect(closest(PENS[theme], eyes)).toBeGreaterThan(0.03);
  });

  test('stand out', () => {
    for (const color of PENS[theme]) expect(contrast(color, GROUND[theme]), color).toBeGreaterThanOrEqual(LEAST[theme]);
  });

  test('can be read as text', () => {
    for (const [i, color] of PENS[theme].entries()) expect(contrast(penInk(theme, i), POINTED[theme]), color).toBeGreaterThanOrEqual(theme.startsWith('contrast') ? 7 : 4.5);
  });
});

test('contrast is that of WCAG', () => {
  expect(wcag('#000000', '#ffffff')).toBe(21);
  expect(wcag('#767676', '#ffffff')).toBeCloseTo(4.54, 2);
  expect(wcag('#4cc2ff', GROUND.dark)).toBeCloseTo(contrast('#4cc2ff', GROUND.dark), 10);
});

describe.each([
  ['the system has', ':root {', 4.5],
  ['are for contrast', ":root[data-theme^='contrast'] {", 7],
] as const)('good, warning and alarm in the themes that %s', (_, selector, least) => {
  const sheet = readFileSync(new URL('../src/ui/base.css', import.meta.url), 'utf8');
  const rules = sheet.slice(sheet.indexOf(selector)).split('}')[0]!;
  const pair = (name: string): string[] => new RegExp(`--${name}: light-dark\\((#\\w{6}), (#\\w{6})\\)`).exec(rules)!.slice(1);

  test.each([0, 1])('are told apart by all eyes, and read (%i)', (ground) => {
    const levels = ['good', 'warn', 'bad'].map((name) => pair(name)[ground]!);
    for (const eyes of Object.values(EYES)) expect(closest(levels, eyes)).toBeGreaterThan(0.05);
    for (const color of [...levels, ...['text', 'text-2', 'text-3', 'accent'].map((name) => pair(name)[ground]!)]) {
      for (const surface of ['ground', 'surface', 'surface-2']) expect(contrast(color, pair(surface)[ground]!), `${color} on ${surface}`).toBeGreaterThanOrEqual(least);
    }
  });
});
