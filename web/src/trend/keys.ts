/** The keys of the page, as docs/trend.md lists them. Those without Ctrl or Alt can be kept to the chart: who speaks to the computer types whole words into the page (WCAG 2.1.4). */
import { PRESETS } from '../time/spans';

export type Action =
  | 'pause' | 'live' | 'earlier' | 'later' | 'zoomIn' | 'zoomOut' | 'back' | 'forward' | 'dates' | 'expression' | 'search' | 'close'
  | 'scales' | 'layout' | 'cursors' | 'cursorA' | 'cursorB' | 'statistics' | 'compare' | 'export' | 'read' | 'help';

const KEYS: Readonly<Record<string, Action>> = {
  ' ': 'pause',
  l: 'live',
  End: 'live',
  ArrowLeft: 'earlier',
  ArrowRight: 'later',
  '+': 'zoomIn',
  '=': 'zoomIn',
  '-': 'zoomOut',
  Backspace: 'back',
  'Shift+Backspace': 'forward',
  d: 'dates',
  f: 'expression',
  '/': 'search',
  Escape: 'close',
  s: 'scales',
  y: 'layout',
  c: 'cursors',
  a: 'cursorA',
  b: 'cursorB',
  t: 'statistics',
  o: 'compare',
  e: 'export',
  r: 'read',
  '?': 'help',
};

const KEPT = 'historian.keys';

/** Whether single characters do something everywhere in the page, and not only in the chart. */
export function keysEverywhere(): boolean {
  return localStorage.getItem(KEPT) !== 'chart';
}

export function setKeysEverywhere(everywhere: boolean): void {
  localStorage.setItem(KEPT, everywhere ? 'page' : 'chart');
}

export interface KeyPress {
  readonly key: string;
  readonly shiftKey: boolean;
}

/** What a key does: an action, or a span in µs; null: nothing. */
export function actionOf({ key, shiftKey }: KeyPress): Action | number | null {
  const preset = /^[1-9]$/.test(key) ? PRESETS[Number(key) - 1] : undefined;
  return preset?.span ?? (shiftKey ? KEYS[`Shift+${key}`] : undefined) ?? KEYS[key] ?? null;
}

/** Call `act` with what the keys pressed in the page do, unless they are typed into something. `act` returns whether it has taken the key. */
export function listenForKeys(act: (action: Action | number, event: KeyboardEvent) => boolean): void {
  document.addEventListener('keydown', (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, dialog, .popup')) return;
    if (event.key.length === 1 && !keysEverywhere() && target.closest('.chart') === null) return;
    const action = actionOf(event);
    // a space on a button presses it
    if (action === null || (event.key === ' ' && target.closest('button, a') !== null)) return;
    if (act(action, event)) event.preventDefault();
  });
}
