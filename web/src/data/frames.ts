/** Decodes data frames and answers to range queries: zstd and Arrow IPC to columns. Runs in the worker: the page itself needs neither library. */
import { type RecordBatch, RecordBatchReader, type Vector } from 'apache-arrow';
import { decompress } from 'fzstd';
import { type Columns, type FrameHeader, HEADER_SIZE, KEEP, ProtocolError, REFERS, SCHEMA, unpackHeader, ZSTD } from './protocol';

/** What an uncompressed payload has at most: what a damaged frame pretends to have is not allocated. */
const MAX_PAYLOAD = 256 * 2 ** 20;
/** Of a payload that is kept. */
const MAX_REFERENCE = 64 * 2 ** 10;

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
