import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { actionOf } from '../src/trend/keys';
import { HOUR, MINUTE } from '../src/time/spans';

test('keys do what they are documented to do', () => {
  expect(actionOf({ key: ' ', shiftKey: false })).toBe('pause');
  expect(actionOf({ key: 'Backspace', shiftKey: false })).toBe('back');
  expect(actionOf({ key: 'Backspace', shiftKey: true })).toBe('forward');
  // on keyboards where + is above =
  expect(actionOf({ key: '+', shiftKey: true })).toBe('zoomIn');
  expect(actionOf({ key: '1', shiftKey: false })).toBe(5 * MINUTE);
  expect(actionOf({ key: '3', shiftKey: false })).toBe(HOUR);
  expect(actionOf({ key: '9', shiftKey: false })).toBeNull();
  expect(actionOf({ key: '0', shiftKey: false })).toBeNull();
  expect(actionOf({ key: 'q', shiftKey: false })).toBeNull();
});

test('each is in the documentation', () => {
  const documented = readFileSync(new URL('../../docs/trend.md', import.meta.url), 'utf8');
  for (const key of ['Space', 'L', 'D', 'F', '/', 'S', 'Y', 'C', 'A', 'B', 'T', 'O', 'E', 'Backspace', 'Shift+Backspace', 'R', '?', 'Esc']) expect(documented).toContain(`\`${key}\``);
});
