/** The bar above the chart: spans, moving and zooming, pause and live, what else the chart shows, the state of the connection. */
import './toolbar.css';
import type { ConnectionState } from '../data/stream';
import { day, PRESETS, spanText, timeOfDay, type Window } from '../time/spans';
import { appearanceButton } from '../ui/appearance';
import { el, icon, setText } from '../ui/dom';
import { lampOf, type Old } from '../ui/lamp';
import { text } from '../ui/strings';
import { savedTools } from './saved';

export interface ToolbarEvents {
  readonly onPreset: (span: number) => void;
  readonly onShift: (part: number) => void;
  readonly onZoom: (factor: number) => void;
  readonly onBack: () => void;
  readonly onForward: () => void;
  readonly onPause: () => void;
  readonly onLive: () => void;
  readonly onMenu: () => void;
  /** the list of keys */
  readonly onKeys: () => void;
  /** to the chart, past all of this */
  readonly onSkip: () => void;
  readonly onCursors: () => void;
  readonly onStatistics: () => void;
  /** dialogs and menus open below `anchor` */
  readonly onDates: (anchor: HTMLElement) => void;
  readonly onExpression: (anchor: HTMLElement) => void;
  readonly onScales: (anchor: HTMLElement) => void;
  readonly onCompare: (anchor: HTMLElement) => void;
  readonly onExport: (anchor: HTMLElement) => void;
}

export interface ToolbarState {
  readonly shown: Window;
  readonly span: number;
  readonly paused: boolean;
  /** what is shown was known once, and time stands still */
  readonly old: boolean;
  readonly cursors: boolean;
  readonly statistics: boolean;
  /** µs, 0: none */
  readonly compare: number;
}

export class Toolbar {
  readonly element: HTMLElement;
  readonly dates: HTMLButtonElement;
  readonly expression: HTMLButtonElement;
  readonly scales: HTMLButtonElement;
  readonly compare: HTMLButtonElement;
  readonly export: HTMLButtonElement;
  #cursors: HTMLButtonElement;
  #statistics: HTMLButtonElement;
  #presets: HTMLButtonElement[];
  #pause: HTMLButtonElement;
  #live: HTMLButtonElement;
  #state: HTMLElement;
  #stateText = el('span', { class: 'state-text' });
  // what counts down is not read out
  #countdown = el('span', { class: 'state-text', 'aria-hidden': 'true' });
  #windowText = el('span', { class: 'window-text' });

  constructor(events: ToolbarEvents) {
    const button = (name: Parameters<typeof icon>[0], label: string, action: () => void, title = label): HTMLButtonElement =>
      el('button', { type: 'button', class: 'tool', 'aria-label': label, title, onclick: action }, icon(name));
    const opening = (name: Parameters<typeof icon>[0], label: string, title: string, open: (anchor: HTMLElement) => void): HTMLButtonElement => {
      const made = button(name, label, () => open(made), title);
      made.setAttribute('aria-haspopup', 'menu');
      return made;
    };
    this.#presets = PRESETS.map(({ label, title, span }) =>
      el('button', { type: 'button', title, 'aria-label': `${label}, ${title}`, 'data-span': span / 1e6, onclick: () => events.onPreset(span) }, label),
    );
    this.#pause = el('button', { type: 'button', class: 'pause', title: text.pauseTitle, onclick: events.onPause }, icon('pause'), text.pause);
    this.#live = el('button', { type: 'button', class: 'live', title: text.liveTitle, onclick: events.onLive }, icon('play'), text.live);
    this.dates = el(
      'button',
      { type: 'button', class: 'dates', title: text.datesTitle, 'aria-label': text.dates, 'aria-haspopup': 'dialog', onclick: () => events.onDates(this.dates) },
      icon('calendar'),
      this.#windowText,
    );
    this.expression = el(
      'button',
      { type: 'button', class: 'tool calculate', title: text.calculateTitle, 'aria-label': `${text.calculate}, f(x)`, 'aria-haspopup': 'dialog', onclick: () => events.onExpression(this.expression) },
      'f(x)',
    );
    this.scales = opening('scales', text.scales, text.scalesTitle, events.onScales);
    this.compare = opening('compare', text.compare, text.compareTitle, events.onCompare);
    this.export = opening('export', text.export, text.exportTitle, events.onExport);
    this.#cursors = button('cursors', text.cursors, events.onCursors);
    this.#statistics = button('statistics', text.statistics, events.onStatistics);
    this.#state = el('div', { class: 'state', role: 'status' }, el('span', { class: 'lamp', 'aria-hidden': 'true' }), el('span', {}, this.#stateText, this.#countdown));
    const menu = button('menu', text.tags, events.onMenu);
    menu.classList.add('menu');
    this.element = el(
      'header',
      { class: 'toolbar' },
      el('button', { type: 'button', class: 'skip', onclick: events.onSkip }, text.skip),
      menu,
      el('h1', { class: 'brand' }, mark(), el('span', {}, text.title)),
      el('div', { class: 'group spans', role: 'group', 'aria-label': text.timeSpan }, ...this.#presets),
      el(
        'div',
        { class: 'group tools', role: 'group', 'aria-label': text.moveAndZoom },
        button('back', text.back, events.onBack),
        button('forward', text.forward, events.onForward),
        button('left', text.earlier, () => events.onShift(-0.5)),
        button('right', text.later, () => events.onShift(0.5)),
        button('minus', text.zoomOut, () => events.onZoom(2)),
        button('plus', text.zoomIn, () => events.onZoom(0.5)),
      ),
      el('div', { class: 'group run', role: 'group', 'aria-label': text.pauseAndLive }, this.#pause, this.#live),
      this.dates,
      el('div', { class: 'extras' }, this.expression, this.scales, this.#cursors, this.#statistics, this.compare, this.export, ...savedTools()),
      this.#state,
      appearanceButton(events.onKeys),
    );
  }

  update({ shown, span, paused, old, cursors, statistics, compare }: ToolbarState): void {
    const length = paused ? shown.to - shown.from : span;
    for (const preset of this.#presets) pressed(preset, Math.abs(Number(preset.dataset['span']) * 1e6 - length) < 1000);
    pressed(this.#pause, paused);
    pressed(this.#live, !paused);
    pressed(this.#cursors, cursors);
    pressed(this.#statistics, statistics);
    pressed(this.compare, compare > 0);
    const window = paused || old ? windowText(shown) : text.last(spanText(span));
    const shownText = compare > 0 ? `${window}, ${text.compared(spanText(compare))}` : window;
    setText(this.#windowText, shownText);
    label(this.dates, `${text.dates}, ${shownText}`);
    this.dates.dataset['paused'] = String(paused);
  }

  /** `old`: where what is shown was known once. */
  setState(state: ConnectionState, paused: boolean, old: Old | null): void {
    const shown = lampOf(state, state.name === 'live' ? null : old);
    const { said, counted } = lampOf(state, null);
    const isPaused = state.name === 'live' && paused;
    this.#state.dataset['state'] = isPaused ? 'paused' : shown.name;
    // what is tried meanwhile
    this.#state.title = old !== null && state.name !== 'live' ? said + counted : '';
    setText(this.#stateText, isPaused ? text.state.paused : shown.said);
    setText(this.#countdown, shown.counted);
  }
}

function pressed(button: HTMLElement, is: boolean): void {
  const value = String(is);
  if (button.getAttribute('aria-pressed') !== value) button.setAttribute('aria-pressed', value);
}

function label(button: HTMLElement, name: string): void {
  if (button.getAttribute('aria-label') !== name) button.setAttribute('aria-label', name);
}

function windowText({ from, to }: Window): string {
  const decimals = to - from < 10e6 ? 1 : 0;
  const end = day(from) === day(to) ? timeOfDay(to, decimals) : `${day(to)} ${timeOfDay(to, decimals)}`;
  return `${day(from)} ${timeOfDay(from, decimals)} – ${end} · ${spanText(to - from)}`;
}

function mark(): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 32 32');
  svg.setAttribute('class', 'mark');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', 'M3 20h6l3-12 5 17 4-11 2 6h6');
  svg.append(path);
  return svg;
}
