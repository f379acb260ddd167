/**
 * The stream protocol, version 1, as docs/protocol.md has it: binary data frames and control messages.
 *
 * Times are integer microseconds since 1970 in a number, which is exact until the year 2255.
 */
import { type RecordBatch, RecordBatchReader, type Vector } from 'apache-arrow';
import { decompress } from 'fzstd';

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

/** What an uncompressed payload has at most: what a damaged frame pretends to have is not allocated. */
const MAX_PAYLOAD = 256 * 2 ** 20;
/** Of a payload that is kept. */
const MAX_REFERENCE = 64 * 2 ** 10;

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

/** The uncompressed payload; `kept` is that of the last frame with KEEP. Throws ProtocolError. */
function payload(frame: Uint8Array, flags: number, kept: Uint8Array | null): Uint8Array {
  const body = frame.subarray(HEADER_SIZE);
  if (flags & REFERS && (kept === null || !(flags & ZSTD))) {
    throw new ProtocolError(kept === null ? 'data frame that refers to an earlier one, and none was to be kept' : 'data frame that refers, without zstd');
  }
  if (!(flags & ZSTD)) return body;
  const size = zstdContentSize(body);
  if (size > MAX_PAYLOAD) throw new ProtocolError(`data frame with a zstd payload that states ${size} bytes`);
  try {
    return flags & REFERS ? decompressWith(kept!, body, size) : decompress(body);
  } catch (error) {
    throw new ProtocolError(`data frame with a damaged zstd payload: ${String(error)}`);
  }
}

/**
 * fzstd knows no dictionaries. One of raw content is what stands before the content: so it is put there, as a raw block of the frame, and cut off again.
 */
function decompressWith(dictionary: Uint8Array, body: Uint8Array, size: number): Uint8Array {
  const descriptor = body[4]!;
  const single = (descriptor >> 5) & 1;
  const code = descriptor >> 6;
  const blocks = 5 + (single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + (code === 0 ? single : 1 << code);
  // magic, descriptor (a single segment, four bytes of content size, the checksum as it is), content size, raw block
  const head = new DataView(new ArrayBuffer(12));
  head.setUint32(0, 0xfd2fb528, true);
  head.setUint8(4, 0xa0 | (descriptor & 4));
  head.setUint32(5, dictionary.byteLength + size, true);
  const block = dictionary.byteLength << 3;
  head.setUint8(9, block & 0xff);
  head.setUint16(10, block >> 8, true);
  const whole = new Uint8Array(12 + dictionary.byteLength + body.byteLength - blocks);
  whole.set(new Uint8Array(head.buffer));
  whole.set(dictionary, 12);
  whole.set(body.subarray(blocks), 12 + dictionary.byteLength);
  const content = decompress(whole).subarray(dictionary.byteLength);
  // Arrow wants its columns where their alignment is
  return content.slice();
}

/** What a zstd frame (RFC 8878) says of its uncompressed size; Infinity if it does not say. */
export function zstdContentSize(body: Uint8Array): number {
  if (body.byteLength < 6) return Infinity;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const descriptor = view.getUint8(4);
  const single = (descriptor >> 5) & 1;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (single ? 0 : 1) + dictionary;
  const code = descriptor >> 6;
  const width = code === 0 ? single : 1 << code;
  if (width === 0 || body.byteLength < at + width) return Infinity;
  if (width === 1) return view.getUint8(at);
  if (width === 2) return view.getUint16(at, true) + 256;
  if (width === 4) return view.getUint32(at, true);
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/** Bytes of the first encapsulated Arrow message, body included. */
function firstMessageLength(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < 8 || view.getUint32(0, true) !== 0xffffffff) throw new ProtocolError('the payload does not begin with an Arrow message');
  // a schema message has no body
  return 8 + view.getInt32(4, true);
}

/** Takes the data frames of one subscription, in their order. */
export class FrameReader {
  #schema: Uint8Array | null = null;
  #sequence = 0;
  #kept: Uint8Array | null = null;

  /** The header and the samples of a frame. Throws ProtocolError for one that is out of sequence or no Arrow IPC. */
  read(frame: Uint8Array): { header: FrameHeader; columns: Columns } {
    const header = unpackHeader(frame);
    if (header.sequence !== this.#sequence) {
      throw new ProtocolError(`data frame ${header.sequence} of subscription ${header.subscription}, where ${this.#sequence} was due`);
    }
    this.#sequence = (this.#sequence + 1) % 2 ** 32;
    const body = payload(frame, header.flags, this.#kept);
    if (header.flags & KEEP) {
      if (body.byteLength > MAX_REFERENCE) throw new ProtocolError(`a payload of ${body.byteLength} bytes is to be kept`);
      this.#kept = body.slice();
    }
    let stream = body;
    if (header.flags & SCHEMA) {
      if (this.#schema !== null) throw new ProtocolError(`data frame ${header.sequence} of subscription ${header.subscription} brings a second schema`);
      this.#schema = body.slice(0, firstMessageLength(body));
    } else if (this.#schema === null) {
      throw new ProtocolError(`data frame ${header.sequence} of subscription ${header.subscription} brings no schema, and none came before`);
    } else {
      stream = new Uint8Array(this.#schema.byteLength + body.byteLength);
      stream.set(this.#schema);
      stream.set(body, this.#schema.byteLength);
    }
    return { header, columns: readColumns(stream) };
  }
}

/** All samples of an Arrow IPC stream. Throws ProtocolError. */
export function readColumns(stream: Uint8Array): Columns {
  let batches: RecordBatch[];
  try {
    batches = [...RecordBatchReader.from(stream)].filter((batch) => batch.numRows > 0);
  } catch (error) {
    throw new ProtocolError(`no Arrow IPC: ${String(error)}`);
  }
  const rows = batches.reduce((sum, batch) => sum + batch.numRows, 0);
  const columns = {
    tagId: new Int32Array(rows),
    ts: new Float64Array(rows),
    value: new Float64Array(rows),
    quality: new Int16Array(rows),
  };
  let text: (string | null)[] | null = null;
  let at = 0;
  for (const batch of batches) {
    columns.tagId.set(column(batch, 'tag_id').toArray() as Int32Array, at);
    columns.quality.set(column(batch, 'quality').toArray() as Int16Array, at);
    copyTimes(column(batch, 'ts'), columns.ts, at);
    copyValues(column(batch, 'value'), columns.value, at);
    const texts = batch.getChild('text');
    if (texts !== null) {
      text ??= new Array<string | null>(at).fill(null);
      for (let i = 0; i < batch.numRows; i++) text.push(texts.get(i) as string | null);
    }
    at += batch.numRows;
  }
  return { ...columns, text };
}

function column(batch: RecordBatch, name: string): Vector {
  const found = batch.getChild(name);
  if (found === null) throw new ProtocolError(`the samples have no column ${name}`);
  return found;
}

/** Without a BigInt for each: the two halves of the integers, as little-endian as Arrow and every browser are. */
function copyTimes(vector: Vector, into: Float64Array, at: number): void {
  for (const data of vector.data) {
    const values = data.values as BigInt64Array;
    const halves = new Int32Array(values.buffer, values.byteOffset, data.length * 2);
    for (let i = 0; i < data.length; i++) into[at++] = halves[2 * i + 1]! * 2 ** 32 + (halves[2 * i]! >>> 0);
  }
}

function copyValues(vector: Vector, into: Float64Array, at: number): void {
  for (const data of vector.data) {
    into.set((data.values as Float64Array).subarray(0, data.length), at);
    if (data.nullCount > 0) {
      for (let i = 0; i < data.length; i++) if (!data.getValid(i)) into[at + i] = NaN;
    }
    at += data.length;
  }
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
