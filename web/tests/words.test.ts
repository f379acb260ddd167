/** No words in the code: what is shown or read out comes from the strings, which are translated. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import ts from 'typescript';

const SOURCES = new URL('../src/', import.meta.url);
/** Attributes that are read, or read out. */
const SPOKEN = new Set(['aria-label', 'aria-description', 'aria-roledescription', 'aria-valuetext', 'title', 'placeholder', 'alt']);
/** Which argument of a call is shown. */
const SHOWN: Readonly<Record<string, number>> = { setText: 1, announce: 0, tell: 0, fillText: 0, form: 0, ask: 0, openMenu: 1 };
/** Signs that are the same in every language, and an example in the language of expressions. */
const SIGNS = new Set(['f(x)', ', f(x)', 'total: site/line1/flow * 2 + last(site/line1/temp)']);

/** The texts with letters among what an expression may give, but for what is given to other calls. */
function words(node: ts.Node | undefined): string[] {
  if (node === undefined || ts.isCallExpression(node) || ts.isArrowFunction(node) || ts.isElementAccessExpression(node)) return [];
  if (ts.isConditionalExpression(node)) return [...words(node.whenTrue), ...words(node.whenFalse)];
  // what is compared is not shown
  if (ts.isBinaryExpression(node) && /^[=!<>]/.test(node.operatorToken.getText())) return [];
  if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) return /\p{L}/u.test(node.text) && !SIGNS.has(node.text) ? [node.text] : [];
  const found: string[] = [];
  ts.forEachChild(node, (child) => void found.push(...words(child)));
  return found;
}

function inCall(call: ts.CallExpression): string[] {
  const name = ts.isPropertyAccessExpression(call.expression) ? call.expression.name.text : call.expression.getText();
  if (name === 'setAttribute') return SPOKEN.has((call.arguments[0] as ts.StringLiteral).text) ? words(call.arguments[1]) : [];
  if (name !== 'el') return words(call.arguments[SHOWN[name] ?? call.arguments.length]);
  const attributes = call.arguments[1];
  const spoken = attributes !== undefined && ts.isObjectLiteralExpression(attributes) ? attributes.properties.filter(ts.isPropertyAssignment).filter(({ name: key }) => SPOKEN.has((key as ts.StringLiteral).text)) : [];
  return [...spoken.flatMap(({ initializer }) => words(initializer)), ...call.arguments.slice(2).flatMap(words)];
}

function wordsIn(code: string): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) found.push(...inCall(node));
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('code.ts', code, ts.ScriptTarget.Latest, true));
  return found;
}

test('words in code are found', () => {
  expect(wordsIn("el('p', { title: 'Hello', class: 'x' }, 'World', open ? `Much ${more} of it` : other, el('b', {}, '%'))")).toEqual(['Hello', 'World', 'Much ', ' of it']);
  expect(wordsIn("setText(node, 'Hello'); this.tell(`No ${name}`); node.setAttribute('aria-label', 'Name'); node.setAttribute('class', 'name')")).toEqual(['Hello', 'No ', 'Name']);
  expect(wordsIn("el('p', { 'aria-label': text.name }, text.of(kind === 'tag' ? 1 : 2), '→ ', kind === 'tag' ? '' : text.other)")).toEqual([]);
});

test('there are none', () => {
  const files = (readdirSync(SOURCES, { recursive: true }) as string[]).filter((file) => file.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(50);
  const found = files.flatMap((file) => wordsIn(readFileSync(new URL(file, SOURCES), 'utf8')).map((word) => `${file}: ${word}`));
  expect(found).toEqual([]);
});
