/** What went wrong, above the tiles; a token that is missing is asked for. */
import { get, Problem, token } from '../data/api';
import { el, icon, setText } from '../ui/dom';
import { askForToken } from '../ui/token';
import { strings } from './strings';

/** What a problem on the screen is about: what was asked for, or the key figures, which are asked for again and again. */
export type Topic = 'page' | 'figures';

export class Problems {
  readonly element = el('div', { class: 'problem', role: 'alert', hidden: true });
  #text = el('span');
  #topic: Topic = 'page';

  /** `onToken`: there is a token now; `again` is what was refused without it. */
  constructor(private readonly onToken: (again: () => void) => void) {
    this.element.append(this.#text, el('button', { type: 'button', 'aria-label': strings.dismiss, onclick: () => (this.element.hidden = true) }, icon('close')));
  }

  tell(text: string, topic: Topic = 'page'): void {
    this.#topic = topic;
    this.element.hidden = false;
    setText(this.#text, text);
  }

  /** All is well; with a topic, where that is what the problem was about. */
  clear(topic?: Topic): void {
    if (topic !== undefined && topic !== this.#topic) return;
    this.#topic = 'page';
    this.element.hidden = true;
    setText(this.#text, '');
  }

  failed(error: unknown, again: () => void = () => undefined, topic: Topic = 'page'): void {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    if (error instanceof Problem && error.status === 401) {
      askForToken(token() === null ? strings.wantsToken : error.detail, () => this.onToken(again));
      return;
    }
    this.tell(error instanceof Problem ? error.message : error instanceof TypeError ? strings.unreachable : String(error), topic);
  }

  /** Why there is no connection, as far as the server says; null: it does not say anything. */
  async diagnose(): Promise<string | null> {
    try {
      await get('v1/snapshot?match=-');
      return null;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      if (error instanceof Problem && error.status === 401) this.failed(error);
      return error instanceof Problem ? error.message : strings.unreachable;
    }
  }
}
