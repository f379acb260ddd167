/** Themes: the system's choice until the user makes one, the colours that the canvas needs, and how strong its lines are. */
import { readable } from './contrast';

const KEY = 'historian.theme';

export const THEMES = ['dark', 'light', 'contrast-dark', 'contrast-light'] as const;
export type Theme = (typeof THEMES)[number];
/** As the system has it, or one theme. */
export type ThemeChoice = Theme | 'system';

/**
 * Pen colours. Chosen by search so that the first eight, and less so all sixteen, are as far apart as can be for eyes of all kinds: in OKLab, also as seen with protanopia,
 * deuteranopia and tritanopia (Machado et al., IEEE TVCG 2009), each with a contrast of 3 to its ground, and where the theme is for contrast of 7, or on white, where hardly any colours are left then, of 4.5. The test keeps them so.
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
  'contrast-dark': [
    '#8eb7ef', '#fffc02', '#ff6a16', '#90e871', '#a586e0', '#ff89b9', '#ceffff', '#17b46a',
    '#45d76c', '#32eabe', '#87d4ee', '#f76d8a', '#d1b10e', '#a7fb97', '#cc8e53', '#b895d9',
  ],
  'contrast-light': [
    '#0072c6', '#cc427e', '#004848', '#845a30', '#1e1ede', '#840000', '#602a8a', '#420060',
    '#7e3678', '#2a785a', '#8454a8', '#667890', '#6c182a', '#783ca2', '#8a54ea', '#ba36c6',
  ],
};

export function penColor(theme: Theme, index: number): string {
  const colors = PENS[theme];
  return colors[index % colors.length]!;
}

/** The ground that text in the colour of a pen stands on, at the worst, and what colours are mixed with to be read there. */
const TEXT: Record<Theme, { readonly ground: string; readonly ink: string; readonly contrast: number }> = {
  dark: { ground: '#18212b', ink: '#ffffff', contrast: 4.5 },
  light: { ground: '#e1e7ed', ink: '#000000', contrast: 4.5 },
  'contrast-dark': { ground: '#000000', ink: '#ffffff', contrast: 7 },
  'contrast-light': { ground: '#ffffff', ink: '#000000', contrast: 7 },
};
const inks = new Map<string, string>();

/** The colour of a pen for text, which needs more contrast than a line. */
export function penInk(theme: Theme, index: number): string {
  const color = penColor(theme, index);
  const key = `${theme} ${color}`;
  let ink = inks.get(key);
  const { ground, ink: towards, contrast } = TEXT[theme];
  if (ink === undefined) inks.set(key, (ink = readable(color, ground, towards, contrast)));
  return ink;
}

/** The second sixteen pens have the colours of the first, dashed. */
export function penDash(index: number): readonly number[] {
  return index < PENS.dark.length ? [] : [7, 3];
}

/** How much wider lines are than usual. */
export function lineScale(): number {
  return currentTheme().startsWith('contrast') ? 1.7 : 1;
}

const SYSTEM = { light: '(prefers-color-scheme: light)', more: '(prefers-contrast: more)', forced: '(forced-colors: active)' } as const;

function systemTheme(): Theme {
  const is = (query: keyof typeof SYSTEM): boolean => matchMedia(SYSTEM[query]).matches;
  const ground = is('light') ? 'light' : 'dark';
  return is('more') || is('forced') ? `contrast-${ground}` : ground;
}

let choice: ThemeChoice = 'system';
let theme: Theme = 'dark';
let changed: () => void = () => undefined;
// asked for at every frame: kept
const colors = new Map<string, string>();

export function currentTheme(): Theme {
  return theme;
}

export function themeChoice(): ThemeChoice {
  return choice;
}

function apply(): void {
  theme = choice === 'system' ? systemTheme() : choice;
  document.documentElement.dataset['theme'] = theme;
  colors.clear();
}

/** Take the theme that was chosen before, or the system's; `onChange` is called whenever another one is shown. */
export function initTheme(onChange: () => void): void {
  const kept = localStorage.getItem(KEY);
  choice = THEMES.find((one) => one === kept) ?? 'system';
  changed = onChange;
  apply();
  for (const query of Object.values(SYSTEM)) {
    matchMedia(query).addEventListener('change', () => {
      apply();
      changed();
    });
  }
}

export function chooseTheme(chosen: ThemeChoice): void {
  choice = chosen;
  if (chosen === 'system') localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, chosen);
  apply();
  changed();
}

/** A colour of the style sheet, for the canvas. */
export function cssColor(name: string): string {
  let color = colors.get(name);
  if (color === undefined) {
    // what the sheet has depends on the theme; only a colour in use is worked out
    const probe = document.createElement('span');
    probe.style.color = `var(${name})`;
    probe.style.forcedColorAdjust = 'none';
    probe.hidden = true;
    document.body.append(probe);
    color = getComputedStyle(probe).color;
    probe.remove();
    colors.set(name, color);
  }
  return color;
}
