/** The bar above the chart: spans, moving and zooming, scales, pause and live, the state of the connection. */
import './toolbar.css';
import { el, icon, setText } from '../ui/dom';
import { savedTools } from './saved';
import type { Scaling } from '../chart/chart';
import { day, PRESETS, spanText, timeOfDay, type Window } from '../time/spans';
import type { ConnectionState } from '../data/stream';

export interface ToolbarEvents {
  readonly onPreset: (span: number) => void;
  readonly onShift: (part: number) => void;
  readonly onZoom: (factor: number) => void;
  readonly onPause: () => void;
  readonly onLive: () => void;
  readonly onScaling: (scaling: Scaling) => void;
  readonly onTheme: () => void;
  readonly onMenu: () => void;
  /** the dialog for it opens below `anchor` */
  readonly onDates: (anchor: HTMLElement) => void;
  /** likewise */
  readonly onExpression: (anchor: HTMLElement) => void;
}

const SCALINGS: readonly { value: Scaling; label: string; title: string }[] = [
  { value: 'auto', label: 'Auto', title: 'Scales fit what is seen' },
  { value: 'range', label: 'Range', title: 'Scales are the ranges of the tags' },
  { value: 'percent', label: '0–100 %', title: 'Every pen in per cent of its range' },
];

export class Toolbar {
  readonly element: HTMLElement;
  #presets: HTMLButtonElement[];
  #scalings: HTMLButtonElement[];
  #pause: HTMLButtonElement;
  #live: HTMLButtonElement;
  #state: HTMLElement;
  #stateText = el('span', { class: 'state-text' });
  #windowText = el('span', { class: 'window-text' });
  readonly dates: HTMLButtonElement;
  readonly expression: HTMLButtonElement;

  constructor(events: ToolbarEvents) {
    const button = (name: Parameters<typeof icon>[0], label: string, action: () => void): HTMLButtonElement =>
      el('button', { type: 'button', class: 'tool', 'aria-label': label, title: label, onclick: action }, icon(name));
    this.#presets = PRESETS.map(({ label, title, span }) =>
      el('button', { type: 'button', title, 'aria-label': title, 'data-span': span / 1e6, onclick: () => events.onPreset(span) }, label),
    );
    this.#scalings = SCALINGS.map(({ value, label, title }) => el('button', { type: 'button', title, 'data-scaling': value, onclick: () => events.onScaling(value) }, label));
    this.#pause = el('button', { type: 'button', class: 'pause', title: 'Hold the chart still (space)', onclick: events.onPause }, icon('pause'), 'Pause');
    this.#live = el('button', { type: 'button', class: 'live', title: 'Back to live (space)', onclick: events.onLive }, icon('play'), 'Live');
    this.dates = el(
      'button',
      { type: 'button', class: 'dates', title: 'Show a stretch of time (d)', 'aria-label': 'Date range', 'aria-haspopup': 'dialog', onclick: () => events.onDates(this.dates) },
      icon('calendar'),
      this.#windowText,
    );
    this.expression = el(
      'button',
      { type: 'button', class: 'tool calculate', title: 'Calculated pen (f)', 'aria-label': 'Calculated pen', 'aria-haspopup': 'dialog', onclick: () => events.onExpression(this.expression) },
      'f(x)',
    );
    this.#state = el('div', { class: 'state', role: 'status' }, el('span', { class: 'lamp', 'aria-hidden': 'true' }), this.#stateText);
    const menu = button('menu', 'Tags', events.onMenu);
    menu.classList.add('menu');
    this.element = el(
      'header',
      { class: 'toolbar' },
      menu,
      el('h1', { class: 'brand' }, mark(), el('span', {}, 'historian')),
      el('div', { class: 'group', role: 'group', 'aria-label': 'Time span' }, ...this.#presets),
      el(
        'div',
        { class: 'group tools', role: 'group', 'aria-label': 'Move and zoom' },
        button('left', 'Earlier (←)', () => events.onShift(-0.5)),
        button('right', 'Later (→)', () => events.onShift(0.5)),
        button('minus', 'Zoom out (−)', () => events.onZoom(2)),
        button('plus', 'Zoom in (+)', () => events.onZoom(0.5)),
      ),
      el('div', { class: 'group run', role: 'group', 'aria-label': 'Pause and live' }, this.#pause, this.#live),
      this.dates,
      this.expression,
      el('div', { class: 'group scalings', role: 'group', 'aria-label': 'Scales' }, ...this.#scalings),
      ...savedTools(),
      this.#state,
      button('theme', 'Dark or light', events.onTheme),
    );
  }

  update(shown: Window, span: number, paused: boolean, scaling: Scaling): void {
    const length = paused ? shown.to - shown.from : span;
    for (const preset of this.#presets) preset.setAttribute('aria-pressed', String(Math.abs(Number(preset.dataset['span']) * 1e6 - length) < 1000));
    for (const button of this.#scalings) button.setAttribute('aria-pressed', String(button.dataset['scaling'] === scaling));
    this.#pause.setAttribute('aria-pressed', String(paused));
    this.#live.setAttribute('aria-pressed', String(!paused));
    setText(this.#windowText, paused ? windowText(shown) : `last ${spanText(span)}`);
    this.dates.dataset['paused'] = String(paused);
  }

  setState(state: ConnectionState, paused: boolean): void {
    const name = state.name === 'live' && paused ? 'paused' : state.name;
    this.#state.dataset['state'] = name;
    setText(this.#stateText, state.name === 'reconnecting' ? `reconnecting in ${Math.max(0, Math.ceil((state.at - Date.now()) / 1000))} s` : name);
  }
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
