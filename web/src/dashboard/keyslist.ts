/** The list of the keys of the dashboards' page, most of them for editing. */
import { showKeys } from '../ui/keyhelp';
import { text } from '../ui/strings';
import { strings } from './strings';

export function showBoardKeys(): void {
  const { keyNames: name } = text;
  const { does } = strings;
  showKeys([
    [[name.tab], does.walk],
    [['←', '→', '↑', '↓'], does.move],
    [[`${name.shift} ${name.arrows}`], does.size],
    [[name.enter], does.change],
    [['Delete'], does.remove],
    [['Ctrl Z', `Ctrl ${name.shift} Z`], does.undo],
    [['?'], does.help],
  ]);
}

/** `?` shows it, unless it is typed into something. */
export function listenForHelp(): void {
  document.addEventListener('keydown', (event) => {
    if (event.key !== '?' || event.ctrlKey || event.metaKey || event.altKey || (event.target as Element).closest('input, textarea, select, dialog, .popup')) return;
    event.preventDefault();
    showBoardKeys();
  });
}
