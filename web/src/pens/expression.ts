/** Calculated pens: an expression with or without a name, as docs/expressions.md has it, and the question for one below a button of the bar. The server understands it; the page does not. */
import './expression.css';
import { el, setText } from '../ui/dom';
import { closeOpen, openBelow } from '../ui/popup';
import type { Tag } from '../data/protocol';
import { text as strings } from '../ui/strings';

/** Of an expression that is typed here, in characters: sixteen of them fit into an address. */
export const MAX_EXPRESSION = 400;

/** Name and expression of `name: expression`; without a name the expression stands for it. */
export function nameOf(text: string): { name: string; expression: string } {
  const named = /^\s*([^:"'/()]{1,100}?)\s*:/.exec(text);
  const expression = (named === null ? text : text.slice(named[0].length)).trim();
  return { name: named?.[1] ?? expression, expression };
}

/** The tag that a calculated pen is shown as, until the server describes it. */
export function calculatedTag(text: string): Tag {
  const { name, expression } = nameOf(text);
  return { tag_id: -1, path: name, kind: 'float', unit: null, description: expression, low: null, high: null, step: false, states: null };
}

/** A path as it stands in an expression: in quotes, where it has blanks or signs that would mean something else. */
export function quoted(path: string): string {
  if (/^[\p{L}_][\p{L}\p{N}_.~$@&-]*(\/[\p{L}\p{N}_.~$@&-]+)+$/u.test(path)) return path;
  return `"${path.replaceAll('"', '""')}"`;
}

/** The last levels of a tag's path, two or as many as tell it from the others. */
export function shortest(tag: Tag, others: readonly Tag[]): string {
  const levels = tag.path.split('/');
  for (let n = 2; n < levels.length; n++) {
    const end = levels.slice(-n).join('/');
    if (others.every((other) => other.path === tag.path || !`/${other.path}`.endsWith(`/${end}`))) return end;
  }
  return tag.path;
}

/** Opens the question, or closes it where it is open. `take` gives what is wrong with a text, or null once it is a pen; `tags` are offered to be put in. */
export function askForExpression(anchor: HTMLElement, tags: readonly Tag[], take: (text: string) => Promise<string | null>): void {
  if (closeOpen('.expression')) return;
  const fault = el('pre', { class: 'fault', role: 'alert', hidden: true });
  const input = el('input', {
    type: 'text',
    'aria-label': strings.expression,
    placeholder: 'total: site/line1/flow * 2 + last(site/line1/temp)',
    maxlength: MAX_EXPRESSION,
    spellcheck: 'false',
    autocomplete: 'off',
    oninput: () => (fault.hidden = true),
  });
  const submit = el('button', { type: 'submit', class: 'primary' }, strings.addCalculated);
  const insert = (path: string): void => {
    const at = input.selectionStart ?? input.value.length;
    // a path and a minus or a slash beside it would be one longer path
    const blank = (text: string, beside: RegExp): string => (text === '' || beside.test(text) ? '' : ' ');
    const [left, right] = [input.value.slice(0, at), input.value.slice(input.selectionEnd ?? at)];
    const put = left + blank(left, /[\s(,]$/) + quoted(path);
    input.value = put + blank(right, /^[\s),]/) + right;
    fault.hidden = true;
    input.focus();
    input.setSelectionRange(put.length, put.length);
  };
  const form = el(
    'form',
    {
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        submit.disabled = true;
        void take(input.value.trim()).then((wrong) => {
          submit.disabled = false;
          fault.hidden = wrong === null;
          if (wrong === null) close();
          else {
            setText(fault, wrong);
            input.focus();
          }
        });
      },
    },
    el('label', {}, strings.calculate, input),
    fault,
    el('p', { class: 'hint' }, strings.expressionHint),
    el('div', { class: 'offered' }, ...tags.map((tag) => el('button', { type: 'button', title: tag.path, onclick: () => insert(tag.path) }, shortest(tag, tags)))),
    submit,
  );
  const close = openBelow(anchor, el('div', { class: 'expression', role: 'dialog', 'aria-label': strings.calculate }, form));
  input.focus();
}
