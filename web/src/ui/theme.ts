/** Dark and light: the system's choice until the user makes one, and the colours that the canvas needs. */
const KEY = 'historian.theme';

export type Theme = 'dark' | 'light';

/**
 * Pen colours. Chosen by search so that the first eight, and less so all sixteen, are as far apart as can be for eyes of all kinds: in OKLab, also as seen with protanopia,
 * deuteranopia and tritanopia (Machado et al., IEEE TVCG 2009), each with a contrast of 3 to its ground. The test keeps them so.
 */
export const PENS: Record<Theme, readonly string[]> = {
  dark: [
    '#4cc2ff', '#b47e9c', '#b23c3a', '#a3ff8d', '#6d66e0', '#cab986', '#e76f00', '#ffdfff',
    '#4db95a', '#20f7d0', '#94acc3', '#00936b', '#d04c26', '#9bdb5b', '#007764', '#6a95ce',
  ],
  light: [
    '#0072c6', '#de548d', '#004846', '#86595d', '#0e4aa4', '#9c0900', '#7d8b02', '#542071',
    '#7b367c', '#078a62', '#834eab', '#0492d1', '#741f1c', '#a13090', '#6481b0', '#c85fbb',
  ],
};

export function penColor(theme: Theme, index: number): string {
  const colors = PENS[theme];
  return colors[index % colors.length]!;
}

/** The second sixteen pens have the colours of the first, dashed. */
export function penDash(index: number): readonly number[] {
  return index < PENS.dark.length ? [] : [7, 3];
}

// asked for at every frame: kept
let light: MediaQueryList | undefined;
const colors = new Map<string, string>();

export function currentTheme(): Theme {
  const chosen = document.documentElement.dataset['theme'];
  if (chosen === 'dark' || chosen === 'light') return chosen;
  light ??= matchMedia('(prefers-color-scheme: light)');
  return light.matches ? 'light' : 'dark';
}

export function initTheme(onChange: () => void): void {
  const kept = localStorage.getItem(KEY);
  if (kept === 'dark' || kept === 'light') document.documentElement.dataset['theme'] = kept;
  matchMedia('(prefers-color-scheme: light)').addEventListener('change', onChange);
}

export function toggleTheme(): Theme {
  const next = currentTheme() === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset['theme'] = next;
  localStorage.setItem(KEY, next);
  return next;
}

/** A colour of the style sheet, for the canvas. */
export function cssColor(name: string): string {
  const key = `${currentTheme()} ${name}`;
  let color = colors.get(key);
  if (color === undefined) colors.set(key, (color = getComputedStyle(document.documentElement).getPropertyValue(name).trim()));
  return color;
}
