/** What this device keeps for the pages of this server: opened once. */
import { address } from '../data/api';
import { Kept } from './kept';
import { owner } from './owner';

let kept: Promise<Kept | null> | undefined;
let onForget: () => void = () => undefined;

/**
 * Null where nothing is kept. Without https (or localhost) a page cannot be opened without its server: it has no use for kept data, and browsers give it no digests to tell
 * tokens apart by.
 */
export function onDevice(): Promise<Kept | null> {
  return (kept ??= isSecureContext ? Kept.open(`historian ${address('.').pathname}`) : Promise.resolve(null));
}

/** The page hears it, so that it does not keep the same again. */
export function observeForget(listener: () => void): void {
  onForget = listener;
}

/** Forget all. */
export async function forgetAll(): Promise<void> {
  onForget();
  await (await onDevice())?.forget();
}

/** The server has refused the token at hand: what was kept with it is not shown again. */
export async function forgetRefused(): Promise<void> {
  const whose = isSecureContext ? await owner() : null;
  if (whose !== null) await (await onDevice())?.forget(whose);
}
