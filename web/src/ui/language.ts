/** The language of the page: of its address (`?lang=nl`), else the user's choice, else the first of the browser's that there is. It stays as long as the page: choosing another one loads it anew. */
const KEY = 'historian.language';

/** Each with its name in itself. */
export const LANGUAGES = { en: 'English', nl: 'Nederlands' } as const;

export type Language = keyof typeof LANGUAGES;

/** The first of some language tags (`nl-BE`) that there is. */
export function languageOf(asked: readonly (string | null)[]): Language {
  const found = asked.map((tag) => tag?.toLowerCase().split('-')[0]).find((tag) => tag !== undefined && Object.hasOwn(LANGUAGES, tag));
  return (found as Language | undefined) ?? 'en';
}

// unit tests have no document
export const language = languageOf(typeof document === 'undefined' ? [] : [new URLSearchParams(location.search).get('lang'), localStorage.getItem(KEY), ...navigator.languages]);

/** Between whole numbers and fractions. */
export const decimalSign = new Intl.NumberFormat(language).formatToParts(0.5).find(({ type }) => type === 'decimal')?.value ?? '.';

/** Keep the user's choice, and load the page in it. */
export function chooseLanguage(chosen: Language): void {
  localStorage.setItem(KEY, chosen);
  const address = new URL(location.href);
  address.searchParams.delete('lang');
  history.replaceState(null, '', address);
  location.reload();
}
