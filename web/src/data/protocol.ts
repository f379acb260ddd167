/**
 * The stream protocol, version 1, as docs/protocol.md has it: the header of binary data frames, and control messages. What is in the frames: frames.ts.
 *
 * Times are integer microseconds since 1970 in a number, which is exact until the year 2255.
 */
export const SUBPROTOCOL = 'historian.v1.arrow';
export const TOKEN_SUBPROTOCOL = 'historian.token.';
export const HEADER_SIZE = 16;

export const ZSTD = 1;
export const BACKFILL = 2;
export const LAST = 4;
export const SCHEMA = 8;
/** The uncompressed payload is the dictionary of those that refer to it, until the next with this flag. */
export const KEEP = 16;
/** The zstd frame has the kept payload as its dictionary. */
export const REFERS = 32;
const FLAGS = ZSTD | BACKFILL | LAST | SCHEMA | KEEP | REFERS;

export type Kind = 'float' | 'int' | 'bool' | 'digital' | 'text';

/** One row of the catalogue, as in `GET /v1/tags`. */
export interface Tag {
  readonly tag_id: number;
  readonly path: string;
  readonly kind: Kind;
  readonly unit: string | null;
  readonly description: string | null;
  readonly low: number | null;
  readonly high: number | null;
  /** beyond them a value is a warning, or, at the outer two, an alarm; a server of an earlier version has none */
  readonly low_low_limit?: number | null;
  readonly low_limit?: number | null;
  readonly high_limit?: number | null;
  readonly high_high_limit?: number | null;
  readonly step: boolean;
  readonly states: Readonly<Record<string, string>> | null;
}

/** Samples as columns of one length; `value` is NaN where there is none. */
export interface Columns {
  readonly tagId: Int32Array;
  readonly ts: Float64Array;
  readonly value: Float64Array;
  readonly quality: Int16Array;
  readonly text: readonly (string | null)[] | null;
}

export interface FrameHeader {
  readonly flags: number;
  readonly subscription: number;
  readonly sequence: number;
  /** where to go on behind this frame; 0: not yet possible */
  readonly cursor: number;
}

/** A frame or message that does not follow the protocol. */
export class ProtocolError extends Error {}

export type ServerMessage =
  | { type: 'subscribed'; id: number; tags: Tag[]; resumed?: boolean }
  /** tags that a wildcard matches have been made: their samples follow */
  | { type: 'tags'; id: number; tags: Tag[] }
  /** a change has begun: the history of these tags follows, and `live` behind it */
  | { type: 'changed'; id: number; tags: Tag[]; removed: number[] }
  | { type: 'live'; id: number; cursor: number }
  | { type: 'gap'; id: number; from: string; to: string; reason: string; range?: string }
  | { type: 'heartbeat' }
  /** `request`: the type of the message at fault; without it, and with an id, the subscription has ended */
  | { type: 'error'; id?: number; request?: string; problem: string; title: string; status: number; detail: string };

export interface SubscribeMessage {
  type: 'subscribe';
  id: number;
  tags: string[];
  expressions?: string[];
  from: number;
  mode: 'auto';
  points: number;
  max_rate?: number;
  cursor?: number;
}

export type ClientMessage = SubscribeMessage | { type: 'unsubscribe'; id: number } | { type: 'heartbeat' };

/** The header of a frame. Throws ProtocolError. */
export function unpackHeader(frame: Uint8Array): FrameHeader {
  if (frame.byteLength < HEADER_SIZE) {
    throw new ProtocolError(`a data frame has a header of ${HEADER_SIZE} bytes; this one has ${frame.byteLength} bytes in all`);
  }
  const view = new DataView(frame.buffer, frame.byteOffset, HEADER_SIZE);
  const version = view.getUint8(0);
  const flags = view.getUint8(1);
  if (version !== 1) throw new ProtocolError(`data frame of version ${version}; this page knows version 1`);
  if (flags & ~FLAGS) throw new ProtocolError(`data frame with unknown flags ${flags}`);
  const cursor = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
  return { flags, subscription: view.getUint16(2, true), sequence: view.getUint32(4, true), cursor };
}

/** A control message of the server, or null for a type that this page does not know. Throws ProtocolError. */
export function parseMessage(text: string): ServerMessage | null {
  let message: { type?: unknown } | null;
  try {
    message = JSON.parse(text) as { type?: unknown } | null;
  } catch {
    throw new ProtocolError('a control message that is no JSON');
  }
  const known = ['subscribed', 'tags', 'changed', 'live', 'gap', 'heartbeat', 'error'];
  return known.includes(String(message?.type)) ? (message as ServerMessage) : null;
}

/** The subprotocols to offer; a browser cannot set headers on a WebSocket, so the token is one of them. */
export function subprotocols(token: string | null): string[] {
  return token === null ? [SUBPROTOCOL] : [SUBPROTOCOL, TOKEN_SUBPROTOCOL + base64url(token)];
}

export function base64url(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
