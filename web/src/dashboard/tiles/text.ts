/** Words: a heading, or a note. */
import { el } from '../../ui/dom';
import type { TextTile } from '../document';
import type { Maker } from './tile';

export const textTile: Maker<TextTile> = (tile) => ({
  element: el('div', { class: 'tile-text' }, tile.heading ? el('h2', {}, tile.text) : el('p', {}, tile.text)),
  title: () => '',
  wants: () => [],
  update: () => undefined,
});
