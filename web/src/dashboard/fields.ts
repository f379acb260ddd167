/** The fields of each type of tile, between a document and a form. Empty ones are left out of the document. */
import { el } from '../ui/dom';
import { AMOUNTS, RATIOS, type Tile, type TileType } from './document';
import { strings } from './strings';

type Name = keyof typeof strings.fields;
type Form = 'text' | 'long' | 'tag' | 'lines' | 'tags' | 'number' | 'whole' | 'check' | 'show' | 'equipment' | 'json';

const FORMS: Record<Name, Form> = {
  title: 'text',
  description: 'long',
  tag: 'tag',
  tags: 'tags',
  text: 'long',
  heading: 'check',
  decimals: 'whole',
  min: 'number',
  max: 'number',
  low_low: 'number',
  low: 'number',
  high: 'number',
  high_high: 'number',
  stale_after: 'text',
  span: 'text',
  alarm_states: 'lines',
  warning_states: 'lines',
  rules: 'json',
  equipment: 'equipment',
  show: 'show',
  period: 'text',
  target: 'number',
  alarm: 'number',
};

const LIMITS = ['low_low', 'low', 'high', 'high_high'] as const satisfies readonly Name[];

const FIELDS: Record<TileType, readonly Name[]> = {
  value: ['tag', 'title', 'decimals', ...LIMITS, 'alarm_states', 'warning_states', 'stale_after'],
  gauge: ['tag', 'title', 'min', 'max', 'decimals', ...LIMITS, 'stale_after'],
  sparkline: ['tag', 'title', 'span', 'decimals', ...LIMITS, 'stale_after'],
  trend: ['tags', 'title', 'span', 'min', 'max', ...LIMITS],
  states: ['tags', 'title', 'span'],
  alarms: ['rules', 'title', 'span'],
  text: ['text', 'heading', 'title'],
  kpi: ['equipment', 'show', 'period', 'title', 'target', 'alarm'],
};

export interface Fields {
  readonly element: HTMLElement;
  /** The tile as the form has it now. Throws SyntaxError for JSON that is none. */
  read(): Tile;
}

/** The fields of a tile; `paths`: of the tags that there are, `equipment`: the names that the document has. */
export function fieldsOf(tile: Tile, paths: Iterable<string>, equipment: readonly string[]): Fields {
  const values = tile as unknown as Record<string, unknown>;
  const limits = (values['limits'] ?? {}) as Record<string, unknown>;
  const tags = el('datalist', { id: 'tag-paths' }, ...[...paths].slice(0, 5000).map((path) => el('option', { value: path })));
  const names = FIELDS[tile.type];
  const inputs = names.map((name) => [name, input(FORMS[name], isLimit(name) ? limits[name] : values[name], equipment)] as const);
  return {
    element: el('div', { class: 'fields' }, tags, ...inputs.map(([name, field]) => el('label', { class: FORMS[name] === 'check' ? 'check' : isLimit(name) || FORMS[name] === 'number' || FORMS[name] === 'whole' ? 'half' : '' }, el('span', {}, strings.fields[name]), field))),
    read() {
      const { x, y, w, h, type } = tile;
      const made: Record<string, unknown> = { type, x, y, w, h };
      const bounds: Record<string, unknown> = {};
      for (const [name, field] of inputs) {
        const value = read(FORMS[name], field, name === 'tag' || name === 'tags' || name === 'text');
        if (value !== undefined) (isLimit(name) ? bounds : made)[name] = value;
      }
      if (Object.keys(bounds).length > 0) made['limits'] = bounds;
      return made as unknown as Tile;
    },
  };
}

function isLimit(name: Name): boolean {
  return (LIMITS as readonly Name[]).includes(name);
}

type Input = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

function input(form: Form, value: unknown, equipment: readonly string[]): Input {
  const text = value === undefined || value === null ? '' : String(value);
  switch (form) {
    case 'check':
      return el('input', { type: 'checkbox', checked: value === true });
    case 'number':
    case 'whole':
      return el('input', { type: 'text', inputmode: 'decimal', autocomplete: 'off', value: text });
    case 'tag':
      return el('input', { type: 'text', list: 'tag-paths', autocomplete: 'off', spellcheck: 'false', value: text });
    case 'text':
      return el('input', { type: 'text', autocomplete: 'off', value: text });
    case 'long':
      return el('textarea', { rows: 3 }, text);
    case 'lines':
    case 'tags':
      return el('textarea', { rows: form === 'tags' ? 4 : 2, spellcheck: 'false' }, ((value as string[] | undefined) ?? []).join('\n'));
    case 'json':
      return el('textarea', { rows: 10, class: 'code', spellcheck: 'false' }, JSON.stringify(value, null, 2));
    case 'show':
      return select([...RATIOS, ...AMOUNTS].map((show) => [show, strings.shows[show]] as const), text);
    case 'equipment':
      return select([...new Set([...equipment, text])].filter((name) => name !== '').map((name) => [name, name] as const), text);
  }
}

function select(options: readonly (readonly [string, string])[], chosen: string): HTMLSelectElement {
  return el('select', {}, ...options.map(([value, label]) => el('option', { value, selected: value === chosen }, label)));
}

/** What a field says; undefined: nothing. A number that is none stays a text, for the server to name. */
function read(form: Form, field: Input, needed: boolean): unknown {
  if (form === 'check') return (field as HTMLInputElement).checked ? true : undefined;
  const text = form === 'long' ? field.value : field.value.trim();
  if (form === 'lines' || form === 'tags') {
    const lines = text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
    return lines.length > 0 || needed ? lines : undefined;
  }
  if (text === '' && !needed) return undefined;
  if (form === 'json') return JSON.parse(text) as unknown;
  if (form !== 'number' && form !== 'whole') return text;
  const number = Number(text.replace(',', '.'));
  return Number.isNaN(number) ? text : number;
}
