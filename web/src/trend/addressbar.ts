/** Keeps the address of the page what it shows, and tells when somebody changes it. */
import { formatHash, type PageState, parseHash } from './hash';

/** Once the hand rests: browsers refuse more than some hundred changes of the address in half a minute. */
const REST_MS = 150;

export class AddressBar {
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `state`: what the page shows; null while that is not known. `onChanged`: by hand, or by a link. */
  constructor(
    private readonly state: () => PageState | null,
    onChanged: (hash: ReturnType<typeof parseHash>) => void,
  ) {
    window.addEventListener('hashchange', () => onChanged(parseHash(location.hash)));
  }

  /** What is shown has changed. */
  save(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#write(), REST_MS);
  }

  #write(): void {
    const state = this.state();
    if (state === null) return;
    const hash = formatHash(state);
    if (hash !== location.hash) history.replaceState(null, '', hash);
  }
}
