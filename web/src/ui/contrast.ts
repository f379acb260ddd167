/** Contrast as WCAG 2 has it, from 1 to 21, of colours such as `#4cc2ff`. */

function parts(hex: string): number[] {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function luminance(hex: string): number {
  const [r, g, b] = parts(hex).map((part) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4)) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(a: string, b: string): number {
  const [dark, light] = [luminance(a), luminance(b)].sort((one, other) => one - other) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** The colour, with as much of `towards` in it as it takes to have such a contrast to a ground. */
export function readable(color: string, ground: string, towards: string, least: number): string {
  const [from, to] = [parts(color), parts(towards)];
  for (let share = 0; share < 1; share += 0.05) {
    const mixed = `#${from.map((part, i) => Math.round(part + (to[i]! - part) * share).toString(16).padStart(2, '0')).join('')}`;
    if (contrast(mixed, ground) >= least) return mixed;
  }
  return towards;
}
