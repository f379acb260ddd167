/** The button for what a page looks like and speaks: theme and language; with the way to the list of its keys. */
import { el, icon } from './dom';
import { chooseLanguage, type Language, language, LANGUAGES } from './language';
import { openMenu } from './menu';
import { text } from './strings';
import { chooseTheme, themeChoice, type ThemeChoice } from './theme';

/** `onKeys` shows the list of keys. */
export function appearanceButton(onKeys: () => void): HTMLButtonElement {
  const themes = Object.entries(text.themes) as [ThemeChoice, string][];
  const languages = Object.entries(LANGUAGES) as [Language, string][];
  const open = (): void =>
    openMenu(button, text.appearance, [
      { name: text.theme, items: themes.map(([theme, label]) => ({ label, checked: theme === themeChoice(), action: () => chooseTheme(theme) })) },
      { name: text.language, items: languages.map(([code, label]) => ({ label, lang: code, checked: code === language, action: () => code !== language && chooseLanguage(code) })) },
      { items: [{ label: text.keysMenu, action: onKeys }] },
    ]);
  const button: HTMLButtonElement = el(
    'button',
    { type: 'button', class: 'tool appearance', 'aria-label': text.appearance, title: text.appearance, 'aria-haspopup': 'menu', onclick: open },
    icon('theme'),
  );
  return button;
}
