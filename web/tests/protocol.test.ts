import { Float64, Int16, Int32, makeVector, RecordBatch, RecordBatchStreamWriter, Schema, Field, Struct, makeData, TimestampMicrosecond, vectorFromArray, Utf8 } from 'apache-arrow';
import { describe, expect, test } from 'vitest';
import { FrameReader, readColumns, zstdContentSize } from '../src/data/frames';
import { BACKFILL, base64url, LAST, parseMessage, ProtocolError, SCHEMA, subprotocols, unpackHeader } from '../src/data/protocol';
import { microseconds } from '../src/data/stream';
import { FIRST, fromHex, SECOND, ZSTD_TEXT } from './vectors';

// what only the decoding of several batches with nulls and texts needs
function streamOf(...batches: { tagId: number[]; ts: bigint[]; value: (number | null)[]; quality: number[]; text: (string | null)[] }[]): Uint8Array {
  const fields = [
    new Field('tag_id', new Int32(), false),
    new Field('ts', new TimestampMicrosecond('UTC'), false),
    new Field('value', new Float64(), true),
    new Field('quality', new Int16(), false),
    new Field('text', new Utf8(), true),
  ];
  const schema = new Schema(fields);
  const writer = new RecordBatchStreamWriter();
  for (const rows of batches) {
    const children = [
      makeVector(Int32Array.from(rows.tagId)).data[0]!,
      makeData({ type: new TimestampMicrosecond('UTC'), length: rows.ts.length, data: BigInt64Array.from(rows.ts) }),
      vectorFromArray(rows.value, new Float64()).data[0]!,
      makeVector(Int16Array.from(rows.quality)).data[0]!,
      vectorFromArray(rows.text, new Utf8()).data[0]!,
    ];
    writer.write(new RecordBatch(schema, makeData({ type: new Struct(fields), length: rows.ts.length, children })));
  }
  return writer.finish().toUint8Array(true);
}

describe('data frames', () => {
  test('the vectors of the protocol are read', () => {
    const reader = new FrameReader();
    const first = reader.read(FIRST);
    expect(first.header).toEqual({ flags: BACKFILL | SCHEMA, subscription: 7, sequence: 0, cursor: 0 });
    expect([...first.columns.ts]).toEqual([1_767_225_600_000_001]);
    expect([...first.columns.value]).toEqual([21.5]);
    expect([...first.columns.quality]).toEqual([192]);
    expect([...first.columns.tagId]).toEqual([1]);
    expect(first.columns.text).toBeNull();

    const second = reader.read(SECOND);
    expect(second.header).toEqual({ flags: LAST, subscription: 7, sequence: 1, cursor: 4_611_686_018_427_389 });
    expect([...second.columns.ts]).toEqual([1_767_225_601_000_000]);
    expect(second.columns.value[0]).toBeNaN();
    expect([...second.columns.quality]).toEqual([0]);
  });

  test('a frame within a larger buffer is read too', () => {
    const around = new Uint8Array(FIRST.length + 24);
    around.set(FIRST, 8);
    expect([...new FrameReader().read(around.subarray(8, 8 + FIRST.length)).columns.value]).toEqual([21.5]);
  });

  test('the header is little-endian', () => {
    const header = unpackHeader(fromHex('01 0a 02 01 06 05 04 03 0d 0c 0b 0a 09 08 07 00'));
    expect(header).toEqual({ flags: BACKFILL | SCHEMA, subscription: 0x0102, sequence: 0x03040506, cursor: 0x0708090a0b0c0d });
  });

  test.each([
    ['too short', fromHex('01'.repeat(15)), '15 bytes'],
    ['of another version', fromHex(`02${'00'.repeat(15)}`), 'version 2'],
    ['with unknown flags', fromHex(`0190${'00'.repeat(14)}`), 'unknown flags'],
  ])('a header that is %s is refused', (_, frame, says) => {
    expect(() => unpackHeader(frame)).toThrow(ProtocolError);
    expect(() => unpackHeader(frame)).toThrow(says);
  });

  test('a frame out of sequence is refused', () => {
    const reader = new FrameReader();
    reader.read(FIRST);
    expect(() => reader.read(FIRST)).toThrow('where 1 was due');
  });

  test('a frame without schema is refused where none came before', () => {
    const frame = SECOND.slice();
    frame[4] = 0;
    expect(() => new FrameReader().read(frame)).toThrow('no schema');
  });

  test('a damaged payload is refused in words', () => {
    const frame = FIRST.slice();
    frame.fill(0, 16, 40);
    expect(() => new FrameReader().read(frame)).toThrow(ProtocolError);
  });

  test('a payload that is no zstd is refused', () => {
    const frame = FIRST.slice();
    frame[1] = BACKFILL | SCHEMA | 1;
    expect(() => new FrameReader().read(frame)).toThrow(ProtocolError);
  });

  test('a zstd frame says how large it is', () => {
    expect(zstdContentSize(ZSTD_TEXT)).toBe(300);
    expect(zstdContentSize(new Uint8Array(3))).toBe(Infinity);
  });
});

test('several batches become one set of columns, null values NaN, texts kept', () => {
  const stream = streamOf(
    { tagId: [1, 2], ts: [-5n, 1_767_225_600_000_001n], value: [1.5, null], quality: [192, 0], text: [null, 'ä'] },
    { tagId: [3], ts: [2n ** 52n], value: [-0.5], quality: [64], text: [null] },
  );
  const columns = readColumns(stream);
  expect([...columns.tagId]).toEqual([1, 2, 3]);
  expect([...columns.ts]).toEqual([-5, 1_767_225_600_000_001, 2 ** 52]);
  expect([...columns.value]).toEqual([1.5, NaN, -0.5]);
  expect([...columns.quality]).toEqual([192, 0, 64]);
  expect(columns.text).toEqual([null, 'ä', null]);
});

describe('control messages', () => {
  test('a known one is read, an unknown one passed over, a broken one refused', () => {
    expect(parseMessage('{"type":"live","id":3,"cursor":9}')).toEqual({ type: 'live', id: 3, cursor: 9 });
    expect(parseMessage('{"type":"changed","id":3,"tags":[],"removed":[4]}')).toEqual({ type: 'changed', id: 3, tags: [], removed: [4] });
    expect(parseMessage('{"type":"news"}')).toBeNull();
    expect(parseMessage('null')).toBeNull();
    expect(() => parseMessage('{')).toThrow(ProtocolError);
  });

  test('a token is offered as a subprotocol in base64url without padding', () => {
    expect(subprotocols(null)).toEqual(['historian.v1.arrow']);
    expect(subprotocols('a?>ü')).toEqual(['historian.v1.arrow', 'historian.token.YT8-w7w']);
    expect(base64url('?')).toBe('Pw');
  });

  test('times keep their microseconds', () => {
    expect(microseconds('2026-01-01T00:00:00.000001Z')).toBe(1_767_225_600_000_001);
    expect(microseconds('2026-01-01T00:00:00.5Z')).toBe(1_767_225_600_500_000);
    expect(microseconds('2026-01-01T00:00:00Z')).toBe(1_767_225_600_000_000);
  });
});
