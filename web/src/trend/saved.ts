/** Saved views: what stands behind the # of the address, kept on the server under a title. With the way to the dashboards, they are the tools for what is kept there. */
import './saved.css';
import { Problem } from '../data/api';
import { deleteDocument, type Described, listDocuments, nameOf, readDocument, storeDocument } from '../data/documents';
import { forgetAll } from '../offline/device';
import { el, icon, setText } from '../ui/dom';
import { closeOpen, openBelow } from '../ui/popup';
import { text } from '../ui/strings';

const strings = text.saved;

/** The buttons for the bar. */
export function savedTools(): HTMLElement[] {
  const views: HTMLButtonElement = el(
    'button',
    { type: 'button', class: 'tool saved', title: strings.views, 'aria-label': strings.views, 'aria-haspopup': 'dialog', onclick: () => void openViews(views) },
    icon('bookmark'),
  );
  return [views, el('a', { class: 'tool to-dashboards', href: './dashboards', title: strings.dashboards, 'aria-label': strings.dashboards }, icon('dashboards'))];
}

/** Opens the list below its button, or closes it where it is open. */
async function openViews(anchor: HTMLElement): Promise<void> {
  if (closeOpen('.saved-views')) return;
  const list = el('ul', {});
  const input = el('input', { type: 'text', 'aria-label': strings.title, placeholder: strings.title, autocomplete: 'off', maxlength: 200 });
  const faultText = el('span');
  const replace = el('button', { type: 'button', class: 'plain', hidden: true, onclick: () => void save('*') }, strings.replace);
  const fault = el('p', { class: 'fault', role: 'alert', hidden: true }, faultText, replace);

  const tell = (said: string, taken = false): void => {
    fault.hidden = said === '';
    replace.hidden = !taken;
    setText(faultText, said);
  };
  const trying = async (action: () => Promise<void>): Promise<void> => {
    try {
      tell('');
      await action();
    } catch (error) {
      if (error instanceof Problem && error.status === 412) tell(strings.taken, true);
      else tell(error instanceof Problem ? error.message : strings.unreachable);
    }
  };
  const load = async (): Promise<void> => show(await listDocuments('views'));
  const show = (views: readonly Described[]): void =>
    list.replaceChildren(
      ...(views.length === 0 ? [el('li', { class: 'none' }, strings.none)] : []),
      ...views.map(({ name, title }) =>
        el(
          'li',
          {},
          el('button', { type: 'button', class: 'open', onclick: () => void trying(() => open(name)) }, title),
          el('button', { type: 'button', class: 'remove', 'aria-label': strings.remove(title), title: strings.remove(title), onclick: () => void trying(async () => {
            await deleteDocument('views', name);
            await load();
            input.focus();
          }) }, icon('close')),
        ),
      ),
    );
  const open = async (name: string): Promise<void> => {
    const { document: view } = await readDocument<{ hash: string }>('views', name);
    close();
    anchor.focus();
    location.hash = view.hash;
  };
  const save = (etag: string | null): Promise<void> =>
    trying(async () => {
      const title = input.value.trim();
      const name = nameOf(title);
      if (name === '') {
        tell(strings.needsTitle);
        return;
      }
      await storeDocument('views', name, { title, hash: location.hash || '#' }, etag);
      input.value = '';
      await load();
    });

  const panel = el(
    'form',
    {
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        void save(null);
      },
    },
    list,
    el('div', { class: 'line' }, input, el('button', { type: 'submit', class: 'primary' }, strings.save)),
    fault,
    el('button', { type: 'button', class: 'plain forget', onclick: () => void forgetAll().then(() => tell(text.offline.forgotten)) }, text.offline.forget),
  );
  const close = openBelow(anchor, el('div', { class: 'saved-views', role: 'dialog', 'aria-label': strings.views }, panel));
  input.focus();
  await trying(load);
}
