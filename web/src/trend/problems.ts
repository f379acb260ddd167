/** The line above the chart that tells what is wrong, and the question for a token. */
import { isAway, Problem } from '../data/api';
import { ProtocolError } from '../data/protocol';
import { el, icon, setText } from '../ui/dom';
import { text } from '../ui/strings';
import { askForToken } from '../ui/token';

/** What a problem on the screen is about. */
export type Topic = 'connection' | 'history' | 'pens';

export class Problems {
  readonly element: HTMLElement;
  #text = el('span');
  #topic: Topic = 'connection';

  /** `onToken`: there is a new token to try. `old`: whether it is told elsewhere that the server is away, and of when is what is shown. */
  constructor(
    private readonly onToken: () => void,
    private readonly old: () => boolean,
  ) {
    this.element = el(
      'div',
      { class: 'problem', role: 'alert', hidden: true },
      this.#text,
      el('button', { type: 'button', 'aria-label': text.dismiss, onclick: () => (this.element.hidden = true) }, icon('close')),
    );
  }

  /** Show a problem, or, with null, take it away if it was about this topic. */
  tell(what: string | null, topic: Topic, by: 'page' | 'server' = 'page'): void {
    if (what === null && topic !== this.#topic) return;
    this.#topic = topic;
    this.element.hidden = what === null;
    // the server speaks English, and is read out in it
    if (by === 'server') this.#text.lang = 'en';
    else this.#text.removeAttribute('lang');
    setText(this.#text, what ?? '');
  }

  /** Something that was asked of the server has failed; `again` asks once more. Throws what is no fault of the server. */
  failed(error: unknown, topic: Topic, again: () => void): void {
    if (error instanceof Problem && error.status === 401) {
      askForToken(error.detail, () => {
        this.tell(null, topic);
        again();
        this.onToken();
      });
    } else if (this.old() && isAway(error)) {
      if (topic !== 'connection') this.tell(text.offline.needsServer, 'connection');
    } else if (error instanceof Problem || error instanceof ProtocolError) {
      this.tell(error.message, topic, 'server');
    } else if (error instanceof TypeError) {
      // no answer: the stream's reconnecting shows when the server is back
      this.tell(text.unreachable, 'connection');
    } else {
      throw error;
    }
  }
}
