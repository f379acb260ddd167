/** The list of the trend page's keys, and the choice where they work. */
import { el } from '../ui/dom';
import { showKeys } from '../ui/keyhelp';
import { text } from '../ui/strings';
import { keysEverywhere, setKeysEverywhere } from './keys';

export function showTrendKeys(): void {
  const { does, keyNames: name } = text;
  const everywhere = el('input', { type: 'checkbox', checked: keysEverywhere(), onchange: () => setKeysEverywhere(everywhere.checked) });
  showKeys(
    [
      [[name.space], does.pause],
      [['L', name.end], does.live],
      [['←', '→'], does.move],
      [['+', '-'], does.zoom],
      [['1', '…', '6'], does.presets],
      [[name.backspace, `${name.shift} ${name.backspace}`], does.back],
      [['D'], does.dates],
      [['S', 'Y'], does.scales],
      [['C', 'A', 'B'], does.cursors],
      [['T'], does.statistics],
      [['O'], does.compare],
      [['E'], does.export],
      [['F'], does.expression],
      [['R'], does.read],
      [['/'], does.search],
      [[name.arrows], does.tree],
      [[name.enter, `${name.shift} ${name.enter}`], does.pick],
      [[name.escape], does.close],
      [['?'], does.help],
    ],
    [el('label', {}, everywhere, text.singleKeys)],
  );
}
