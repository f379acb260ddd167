/** Elements in one call. */
type Attributes = Record<string, string | number | boolean | EventListener | undefined>;

/** `el('button', { class: 'x', 'aria-label': 'y', onclick: f }, 'text', child)` */
export function el<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  element.append(...children);
  return element;
}

/** Set a text only where it changes: an unchanged one costs no layout. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

const ICONS = {
  menu: 'M3 5h14M3 10h14M3 15h14',
  pause: 'M7 4v12M13 4v12',
  play: 'M6 4l10 6-10 6z',
  left: 'M12 4l-6 6 6 6',
  right: 'M8 4l6 6-6 6',
  plus: 'M10 4v12M4 10h12',
  minus: 'M4 10h12',
  close: 'M5 5l10 10M15 5L5 15',
  theme: 'M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14zM10 3v14a7 7 0 0 0 0-14z',
  calendar: 'M4 5h12v12H4zM4 9h12M7 3v4M13 3v4',
  bookmark: 'M5 3h10v14l-5-4-5 4z',
  dashboards: 'M3 3h6v8H3zM11 3h6v4h-6zM11 9h6v8h-6zM3 13h6v4H3z',
  expand: 'M3 8V3h5M12 3h5v5M17 12v5h-5M8 17H3v-5',
  back: 'M8 5L3 10l5 5M3 10h9a5 5 0 0 1 5 5',
  forward: 'M12 5l5 5-5 5M17 10H8a5 5 0 0 0-5 5',
  scales: 'M4 3v14h13M8 13V9M12 13V5M16 13V8',
  cursors: 'M6 3v14M14 3v14M6 10h8',
  statistics: 'M14 4H6l5 6-5 6h8',
  compare: 'M3 13c3-9 5-9 7-4s4 5 7-4M3 17h14',
  export: 'M10 3v9M6 9l4 4 4-4M4 17h12',
  move: 'M7 4h.01M13 4h.01M7 10h.01M13 10h.01M7 16h.01M13 16h.01',
  search: 'M9 3a6 6 0 1 0 0 12A6 6 0 0 0 9 3zM13.5 13.5L18 18',
} as const;

export function icon(name: keyof typeof ICONS): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 20 20');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}
