/** Storing a dashboard on the server, where somebody else may have changed it meanwhile. */
import { Problem } from '../data/api';
import { nameOf, readDocument, storeDocument } from '../data/documents';
import { ask } from './dialogs';
import type { Dashboard } from './document';
import { strings } from './strings';

/** A dashboard as it is on the server; a new one has neither name nor etag. */
export interface Shown {
  readonly name: string | null;
  readonly etag: string | null;
  readonly document: Dashboard;
}

/** `saved`: it stands on the server now; `theirs`: what somebody else has saved is wanted instead; `why`: neither, and what to say of it, if anything. */
export type Saved = { readonly saved: Shown } | { readonly theirs: Shown } | { readonly why: string | null };

/** Store `document` in the place of `shown`. Throws Problem and TypeError for what has nothing to do with others. */
export async function save(shown: Shown, document: Dashboard, etag: string | null = shown.etag): Promise<Saved> {
  const name = shown.name ?? nameOf(document.title);
  if (name === '') return { why: strings.needsTitle };
  try {
    return { saved: { name, etag: await storeDocument('dashboards', name, document, etag), document } };
  } catch (error) {
    if (!(error instanceof Problem) || (error.status !== 412 && error.status !== 404)) throw error;
    if (shown.name === null) return { why: strings.nameTaken };
    // deleted meanwhile: it is made again
    if (error.status === 404) return save(shown, document, null);
    const answer = await ask(strings.conflict, { mine: strings.keepMine, theirs: strings.takeTheirs });
    if (answer === 'mine') return save(shown, document, '*');
    return answer === 'theirs' ? { theirs: await read(name) } : { why: null };
  }
}

/** A dashboard of the server. Throws Problem, TypeError. */
export async function read(name: string): Promise<Shown> {
  const { document, etag } = await readDocument<Dashboard>('dashboards', name);
  return { name, etag, document };
}
