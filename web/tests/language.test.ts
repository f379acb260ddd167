import { afterEach, expect, test, vi } from 'vitest';
import { languageOf } from '../src/ui/language';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

/** What a browser whose user speaks these has, at an address. */
function stubBrowser(languages: readonly string[], search = '', kept: string | null = null): void {
  vi.resetModules();
  vi.stubGlobal('document', {});
  vi.stubGlobal('location', { search });
  vi.stubGlobal('localStorage', { getItem: () => kept });
  vi.stubGlobal('navigator', { languages });
}

test('the first language that there is, whatever its region', () => {
  expect(languageOf(['fr', 'nl-BE', 'en'])).toBe('nl');
  expect(languageOf([null, 'NL'])).toBe('nl');
  expect(languageOf(['en-GB', 'nl'])).toBe('en');
  expect(languageOf(['fr', 'constructor', ''])).toBe('en');
});

test('the address goes before the choice, and that before the browser', async () => {
  const chosen = async (): Promise<string> => (await import('../src/ui/language')).language;
  stubBrowser(['nl']);
  expect(await chosen()).toBe('nl');
  stubBrowser(['nl'], '', 'en');
  expect(await chosen()).toBe('en');
  stubBrowser(['en'], '?lang=nl', 'en');
  expect(await chosen()).toBe('nl');
  stubBrowser(['en'], '?lang=xx', 'nl');
  expect(await chosen()).toBe('nl');
});

test('numbers and times are in the form of Dutch, and those for machines are not', async () => {
  stubBrowser(['nl']);
  const { formatNumber } = await import('../src/ui/format');
  expect(formatNumber(1.5, 2)).toBe('1,50');
  expect(formatNumber(-12345.678, 1)).toBe('\u221212\u202f345,7');
  expect(formatNumber(1.5e12)).toBe('1,500e+12');
  expect(formatNumber(-0.001, 1)).toBe('0,0');
  const { day, isoDay, isoTime, spanText, tickLabel, timeOfDay, HOUR, MINUTE, SECOND } = await import('../src/time/spans');
  const at = new Date(2026, 2, 1, 6, 5, 4, 250).getTime() * 1000;
  expect([day(at), isoDay(at)]).toEqual(['01-03-2026', '2026-03-01']);
  expect([timeOfDay(at, 3), isoTime(at)]).toEqual(['06:05:04,250', '06:05:04']);
  expect(spanText(HOUR + 30 * MINUTE)).toBe('1 u 30 min');
  expect(tickLabel(at, SECOND, null)).toBe('06:05:04\n01-03-2026');
  const { fileName } = await import('../src/trend/export');
  expect(fileName({ from: at, to: at })).toBe('trend-2026-03-01T060504');
});

/** All that the objects say, each under its path; what depends on something, of samples. */
function said(words: object, path = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(words) as [string, unknown][]) {
    if (typeof value === 'string') found.set(`${path}${key}`, value);
    else if (typeof value === 'function') found.set(`${path}${key}`, String((value as (...of: unknown[]) => string)(3, 2, 5, 7)));
    else for (const [inner, text] of said(value as object, `${path}${key}.`)) found.set(inner, text);
  }
  return found;
}

/** Words that are the same in both languages. */
const SAME = new Set('historian later tags tag live a b min max trend trends dashboards dashboard cursor token d m s ms backspace shift esc enter end tab json oee alarm'.split(' '));

test('nothing is left in English', async () => {
  const pages = [
    [(await import('../src/ui/strings')).text, (await import('../src/ui/strings.nl')).dutch],
    [(await import('../src/dashboard/strings')).strings, (await import('../src/dashboard/strings.nl')).dutch],
  ] as const;
  for (const [english, dutch] of pages) {
    const there = said(dutch);
    const left = [...said(english)].filter(([path, words]) => there.get(path) === words && (words.match(/\p{L}+/gu) ?? []).some((word) => !SAME.has(word.toLowerCase())));
    expect(left).toEqual([]);
  }
});
