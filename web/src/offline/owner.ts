/** Whose what is kept is: of the token with which the server gave it. */
import { token } from '../data/api';

const OPEN = Promise.resolve('without a token');
const names = new Map<string, Promise<string>>();

/** The name under which data of the token at hand are kept: what another token has brought is not found by it. */
export function owner(): Promise<string> {
  const secret = token();
  if (secret === null) return OPEN;
  let name = names.get(secret);
  // found out before the last moment of a page, when there is no time for it
  if (name === undefined) names.set(secret, (name = digest(`historian ${secret}`)));
  return name;
}

async function digest(text: string): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  return [...bytes.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
