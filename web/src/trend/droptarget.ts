/** Takes tags that are dragged from the tree. */
import { DRAGGED } from '../tags/treeview';

export function acceptTags(host: HTMLElement, then: (paths: readonly string[]) => void): void {
  const dragged = (event: DragEvent): boolean => event.dataTransfer?.types.includes(DRAGGED) ?? false;
  host.addEventListener('dragover', (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    host.classList.add('dropping');
  });
  host.addEventListener('dragleave', () => host.classList.remove('dropping'));
  host.addEventListener('drop', (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    host.classList.remove('dropping');
    then(JSON.parse(event.dataTransfer?.getData(DRAGGED) ?? '[]') as string[]);
  });
}
