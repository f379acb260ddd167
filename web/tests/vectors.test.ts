/** The test vectors in docs/vectors, by which anyone's client is tested: all are read, and what is faulty is refused. */
import { describe, expect, test } from 'vitest';
import { FrameReader } from '../src/data/frames';
import { ProtocolError } from '../src/data/protocol';
import dictionary from '../../docs/vectors/dictionary.json';
import faulty from '../../docs/vectors/faulty.json';
import noRows from '../../docs/vectors/no-rows.json';
import oneTag from '../../docs/vectors/one-tag.json';
import severalKinds from '../../docs/vectors/several-kinds.json';
import { fromHex } from './vectors';

interface Row {
  tag_id: number;
  ts: number;
  value: number | null;
  quality: number;
  text: string | null;
}

interface Frame {
  flags: number;
  sequence: number;
  cursor: number;
  hex: string;
  rows: Row[];
}

const SUBSCRIPTIONS: Record<string, { subscription: number; frames: Frame[] }> = {
  dictionary,
  'no-rows': noRows,
  'one-tag': oneTag,
  'several-kinds': severalKinds,
};

describe.each(Object.entries(SUBSCRIPTIONS))('%s', (_, document) => {
  test('every frame is read', () => {
    const reader = new FrameReader();
    for (const { hex, rows, ...header } of document.frames) {
      const frame = reader.read(fromHex(hex));
      expect(frame.header).toEqual({ flags: header.flags, sequence: header.sequence, cursor: header.cursor, subscription: document.subscription });
      const { tagId, ts, value, quality, text } = frame.columns;
      const found = [...tagId].map((tag_id, i) => ({
        tag_id,
        ts: ts[i],
        value: Number.isNaN(value[i]) ? null : value[i],
        quality: quality[i],
        text: text?.[i] ?? null,
      }));
      expect(found).toEqual(rows);
    }
  });
});

describe('what is faulty is refused', () => {
  test.each(faulty.faults)('$about', ({ frames }) => {
    const reader = new FrameReader();
    const bad = frames.at(-1)!;
    for (const frame of frames.slice(0, -1)) reader.read(fromHex(frame));
    expect(() => reader.read(fromHex(bad))).toThrow(ProtocolError);
  });
});
