/** What the lamp of a page's bar says: the state of the connection, or up to when what is shown was known. */
import type { ConnectionState } from '../data/stream';
import { ageText, instantText } from '../offline/age';
import { text } from './strings';

/** Up to when what is shown was known, and how long ago that is; in µs. */
export interface Old {
  readonly at: number;
  readonly age: number;
}

/** `name` is the lamp's state; what is `counted` goes on by itself, and is not read out. */
export interface Lamp {
  readonly name: ConnectionState['name'];
  readonly said: string;
  readonly counted: string;
}

export function lampOf(state: ConnectionState, old: Old | null): Lamp {
  if (old !== null) return { name: 'offline', said: text.offline.asOf(instantText(old.at, old.at + old.age)), counted: text.offline.ago(ageText(old.age)) };
  return { name: state.name, said: text.state[state.name], counted: state.name === 'reconnecting' ? text.inSeconds(Math.max(0, Math.ceil((state.at - Date.now()) / 1000))) : '' };
}
