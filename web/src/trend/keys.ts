/** The keys of the page, as docs/trend.md lists them. */
import { PRESETS } from '../time/spans';

export type Action =
  | 'pause' | 'live' | 'earlier' | 'later' | 'zoomIn' | 'zoomOut' | 'back' | 'forward' | 'dates' | 'expression' | 'search' | 'close'
  | 'scales' | 'layout' | 'cursors' | 'cursorA' | 'cursorB' | 'statistics' | 'compare' | 'export';

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
};

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
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, dialog, .palette, .popup, .date-range')) return;
    const action = actionOf(event);
    // a space on a button presses it
    if (action === null || (event.key === ' ' && target.closest('button') !== null)) return;
    if (act(action, event)) event.preventDefault();
  });
}
