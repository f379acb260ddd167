/** Inputs that several forms have: a tag, a choice, lines. */
import type { Tag } from '../data/protocol';
import { el, setText } from '../ui/dom';
import { strings } from './strings';

/** Paths that inputs offer, at the most. */
const OFFERED = 5000;

/** What the tag inputs of a form offer. */
export function tagList(paths: Iterable<string>): HTMLElement {
  return el('datalist', { id: 'tag-paths' }, ...[...paths].slice(0, OFFERED).map((path) => el('option', { value: path })));
}

/** The path of a tag, and below it what the tag is. */
export function tagInput(path: string, tags: ReadonlyMap<string, Tag>): { input: HTMLInputElement; hint: HTMLElement } {
  const hint = el('small', { class: 'hint' });
  const input = el('input', { type: 'text', list: 'tag-paths', autocomplete: 'off', spellcheck: 'false', value: path });
  const show = (): void => {
    const typed = input.value.trim();
    const tag = tags.get(typed);
    setText(hint, typed === '' ? '' : tag === undefined ? strings.unknownTag(typed) : [tag.kind, tag.unit, tag.description].filter(Boolean).join(' · '));
  };
  input.addEventListener('input', show);
  show();
  return { input, hint };
}

export function select(options: readonly (readonly [string, string])[], chosen: string): HTMLSelectElement {
  return el('select', {}, ...options.map(([value, label]) => el('option', { value, selected: value === chosen }, label)));
}

/** Of a text what stands on its lines. */
export function lines(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
}
