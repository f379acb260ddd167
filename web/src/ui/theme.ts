/** Dark and light: the system's choice until the user makes one, and the colours that the canvas needs. */
const KEY = 'historian.theme';

export type Theme = 'dark' | 'light';

/** Pen colours, told apart on their ground; the same index is the same hue in both. */
const PENS: Record<Theme, readonly string[]> = {
  dark: [
    '#4cc2ff', '#ffb454', '#6fdc6a', '#ff6f86', '#b794ff', '#f2e15c', '#3fe0c5', '#ff9ad1',
    '#86aaff', '#ff8a3d', '#b4e05a', '#dd7bff', '#58c99a', '#ffd08a', '#9fb0c3', '#ffffff',
  ],
  light: [
    '#0072c6', '#c76500', '#2a8a1e', '#d11f3a', '#7440d8', '#8a7600', '#00857a', '#c0317f',
    '#3556c4', '#a83c00', '#587a00', '#9a26ae', '#00734a', '#946000', '#55626f', '#101820',
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

export function currentTheme(): Theme {
  const chosen = document.documentElement.dataset['theme'];
  if (chosen === 'dark' || chosen === 'light') return chosen;
  return matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
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
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
