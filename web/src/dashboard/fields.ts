/** The fields of each type of tile, between a document and a form. Empty ones are left out of the document. */
import { limitsOf } from '../data/limits';
import type { Tag } from '../data/protocol';
import { el } from '../ui/dom';
import { AMOUNTS, RATIOS, type Tile, type TileType } from './document';
import { lines, select, tagList } from './inputs';
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
  no_limits: 'check',
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
  value: ['tag', 'title', 'decimals', ...LIMITS, 'no_limits', 'alarm_states', 'warning_states', 'stale_after'],
  gauge: ['tag', 'title', 'min', 'max', 'decimals', ...LIMITS, 'no_limits', 'stale_after'],
  sparkline: ['tag', 'title', 'span', 'decimals', ...LIMITS, 'no_limits', 'stale_after'],
  trend: ['tags', 'title', 'span', 'min', 'max', ...LIMITS, 'no_limits'],
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

/** The fields of a tile; `tags`: those that there are, by path, `equipment`: the names that the document has. */
export function fieldsOf(tile: Tile, tags: ReadonlyMap<string, Tag>, equipment: readonly string[]): Fields {
  const limits = ('limits' in tile ? tile.limits : undefined) as Record<string, unknown> | undefined;
  const values: Record<string, unknown> = { ...tile, ...limits, no_limits: limits !== undefined && Object.keys(limits).length === 0 };
  const names = FIELDS[tile.type];
  const inputs = names.map((name) => [name, input(FORMS[name], values[name], equipment)] as const);
  const fields = new Map(inputs);
  // what the tag has is seen where the tile has nothing of its own
  const showOfTag = (): void => {
    const tag = tags.get((fields.get('tag') ?? fields.get('tags'))?.value.trim() ?? '');
    const ofTag: Record<string, unknown> = tag === undefined ? {} : { ...limitsOf(tag), min: tag.low, max: tag.high };
    for (const name of [...LIMITS, 'min', 'max'] as const) fields.get(name)?.setAttribute('placeholder', String(ofTag[name] ?? ''));
  };
  for (const name of ['tag', 'tags'] as const) fields.get(name)?.addEventListener('input', showOfTag);
  showOfTag();
  return {
    element: el('div', { class: 'fields' }, tagList(tags.keys()), ...inputs.map(([name, field]) => el('label', { class: FORMS[name] === 'check' ? 'check' : isLimit(name) || FORMS[name] === 'number' || FORMS[name] === 'whole' ? 'half' : '' }, el('span', {}, strings.fields[name]), field))),
    read() {
      const { x, y, w, h, type } = tile;
      const made: Record<string, unknown> = { type, x, y, w, h };
      const bounds: Record<string, unknown> = {};
      for (const [name, field] of inputs) {
        const value = read(FORMS[name], field, name === 'tag' || name === 'tags' || name === 'text');
        if (value !== undefined && name !== 'no_limits') (isLimit(name) ? bounds : made)[name] = value;
      }
      const none = (fields.get('no_limits') as HTMLInputElement | undefined)?.checked === true;
      if (none) made['limits'] = {};
      else if (Object.keys(bounds).length > 0) made['limits'] = bounds;
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

/** What a field says; undefined: nothing. A number that is none stays a text, for the server to name. */
function read(form: Form, field: Input, needed: boolean): unknown {
  if (form === 'check') return (field as HTMLInputElement).checked ? true : undefined;
  const text = form === 'long' ? field.value : field.value.trim();
  if (form === 'lines' || form === 'tags') {
    const found = lines(text);
    return found.length > 0 || needed ? found : undefined;
  }
  if (text === '' && !needed) return undefined;
  if (form === 'json') return JSON.parse(text) as unknown;
  if (form !== 'number' && form !== 'whole') return text;
  const number = Number(text.replace(',', '.'));
  return Number.isNaN(number) ? text : number;
}
