import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ConnectionDecoder, type Decoded, type Fault } from '../src/data/connection';
import { type ConnectionState, retryDelay, Stream, type Wanted } from '../src/data/stream';
import { FIRST } from './vectors';

/** The browser's WebSocket, as far as the stream uses it, played by the test; what decodes it is real. */
class Socket {
  #decoder = new ConnectionDecoder();
  sent: Record<string, unknown>[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string | Decoded | Fault }) => void) | null = null;
  onclose: (() => void) | null = null;

  send(text: string): void {
    this.#decoder.sent(text);
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.closed = true;
    this.onclose?.();
  }

  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  frame(bytes: Uint8Array): void {
    const data = this.#decoder.frame(bytes.slice());
    if (data !== null) this.onmessage?.({ data });
  }
}

let sockets: Socket[];
let states: ConnectionState[];
let problems: (string | null)[];
let values: number[];
let restarts: number;
let lives: number;
let online: boolean;
let gaps: [number, number][];
let stream: Stream;

const wanted: Wanted = {
  path: 'a/b',
  from: () => 1000.7,
  points: () => 500,
  onColumns: (columns) => values.push(...columns.value),
  onRestart: () => restarts++,
  onLive: () => lives++,
  onGap: (from, to) => gaps.push([from, to]),
};

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  states = [];
  problems = [];
  values = [];
  gaps = [];
  restarts = 0;
  lives = 0;
  online = true;
  stream = new Stream({
    connect: () => {
      sockets.push(new Socket());
      return sockets.at(-1)!;
    },
    onState: (state) => states.push(state),
    onProblem: (text) => problems.push(text),
    random: () => 0.5,
    online: () => online,
  });
});

afterEach(() => vi.useRealTimers());

/** A frame with the sample of the vectors, of this subscription, sequence and cursor. */
function frame(id: number, sequence: number, cursor: number): Uint8Array {
  const bytes = FIRST.slice();
  const view = new DataView(bytes.buffer);
  view.setUint16(2, id, true);
  view.setUint32(4, sequence, true);
  view.setUint32(8, cursor, true);
  return bytes;
}

function open(): Socket {
  const socket = sockets.at(-1)!;
  socket.onopen?.();
  return socket;
}

test('a pen is subscribed to from where the window begins, and live once its seam has passed', () => {
  stream.start();
  const id = stream.subscribe(wanted);
  const socket = open();
  expect(socket.sent).toEqual([{ type: 'subscribe', id, tags: ['a/b'], from: 1000, mode: 'auto', points: 500 }]);
  socket.say({ type: 'subscribed', id, tags: [] });
  expect(restarts).toBe(1);
  socket.frame(frame(id, 0, 0));
  expect(values).toEqual([21.5]);
  expect(stream.state.name).toBe('connecting');
  expect(lives).toBe(0);
  socket.say({ type: 'live', id, cursor: 40 });
  expect(stream.state.name).toBe('live');
  expect(lives).toBe(1);
});

test('a pen that is added later needs no new connection, and one that is removed is closed', () => {
  stream.start();
  const socket = open();
  expect(stream.state.name).toBe('live');
  const first = stream.subscribe(wanted);
  const second = stream.subscribe(wanted);
  expect(second).not.toBe(first);
  stream.unsubscribe(first);
  expect(socket.sent.map((message) => [message['type'], message['id']])).toEqual([['subscribe', first], ['subscribe', second], ['unsubscribe', first]]);
  // on its way as it was closed
  socket.frame(frame(first, 0, 0));
  expect(values).toEqual([]);
  expect(sockets).toHaveLength(1);
});

describe('after a lost connection', () => {
  function lose(cursorOfFrame: number): { id: number; again: Socket } {
    stream.start();
    const id = stream.subscribe(wanted);
    const socket = open();
    socket.say({ type: 'subscribed', id, tags: [] });
    socket.say({ type: 'live', id, cursor: 40 });
    socket.frame(frame(id, 0, cursorOfFrame));
    socket.onclose?.();
    expect(states.at(-1)).toEqual({ name: 'reconnecting', at: Date.now() + 375 });
    vi.advanceTimersByTime(374);
    expect(sockets).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(sockets).toHaveLength(2);
    return { id, again: open() };
  }

  test('it goes on behind the last cursor, and keeps what it has', () => {
    const { id, again } = lose(41);
    expect(again.sent).toEqual([{ type: 'subscribe', id, tags: ['a/b'], from: 1000, mode: 'auto', points: 500, cursor: 41 }]);
    again.say({ type: 'subscribed', id, tags: [], resumed: true });
    expect(restarts).toBe(1);
    again.frame(frame(id, 0, 42));
    expect(values).toEqual([21.5, 21.5]);
  });

  test('a cursor of 0 is none: the one before it stands', () => {
    const { again } = lose(0);
    expect(again.sent[0]).toMatchObject({ cursor: 40 });
  });

  test('what cannot be resumed is begun anew', () => {
    const { id, again } = lose(41);
    again.say({ type: 'subscribed', id, tags: [], resumed: false });
    again.say({ type: 'gap', id, from: '1970-01-01T00:00:00Z', to: '1970-01-01T00:00:01Z', reason: 'cursor-expired' });
    expect(restarts).toBe(2);
    expect(gaps).toEqual([]);
  });

  test('a backfill that breaks off after the cursor was refused is asked for anew, not behind that cursor', () => {
    const { id, again } = lose(41);
    again.say({ type: 'subscribed', id, tags: [], resumed: false });
    again.frame(frame(id, 0, 0));
    again.onclose?.();
    vi.advanceTimersByTime(15_000);
    const third = open();
    expect(third.sent[0]).toMatchObject({ type: 'subscribe', id });
    expect(third.sent[0]).not.toHaveProperty('cursor');
  });

  test('without a network it says so, and tries all the same', () => {
    online = false;
    stream.start();
    sockets.at(-1)!.onclose?.();
    expect(stream.state.name).toBe('offline');
    vi.advanceTimersByTime(375);
    expect(sockets).toHaveLength(2);
    sockets.at(-1)!.onclose?.();
    stream.retryNow();
    expect(sockets).toHaveLength(3);
    open();
    expect(stream.state.name).toBe('live');
  });

  test('it waits longer each time that fails, and not once it has been live', () => {
    stream.start();
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      sockets.at(-1)!.onclose?.();
      const state = states.at(-1)!;
      if (state.name !== 'reconnecting') throw new Error(state.name);
      waits.push(state.at - Date.now());
      vi.advanceTimersByTime(waits.at(-1)!);
    }
    expect(waits).toEqual([375, 750, 1500, 3000, 6000, 11250, 11250, 11250]);
    open();
    expect(stream.state.name).toBe('live');
    sockets.at(-1)!.onclose?.();
    expect(states.at(-1)).toEqual({ name: 'reconnecting', at: Date.now() + 375 });
  });
});

test('a slow client is told what it missed', () => {
  stream.start();
  const id = stream.subscribe(wanted);
  open().say({ type: 'gap', id, from: '2026-01-01T00:00:00.000001Z', to: '2026-01-01T00:00:01Z', reason: 'slow-client' });
  expect(gaps).toEqual([[1_767_225_600_000_001, 1_767_225_601_000_000]]);
});

test('a connection on which nothing comes is given up', () => {
  stream.start();
  const socket = open();
  vi.advanceTimersByTime(20_000);
  socket.say({ type: 'heartbeat' });
  vi.advanceTimersByTime(24_999);
  expect(stream.state.name).toBe('live');
  vi.advanceTimersByTime(1);
  expect(stream.state.name).toBe('reconnecting');
  expect(socket.closed).toBe(true);
});

test('a frame that is damaged is followed by a fresh connection', () => {
  stream.start();
  const id = stream.subscribe(wanted);
  const socket = open();
  socket.frame(frame(id, 5, 0));
  expect(problems.at(-1)).toContain('where 0 was due');
  expect(stream.state.name).toBe('reconnecting');
});

test('a refused subscription is shown and does not keep the others from being live', () => {
  stream.start();
  const id = stream.subscribe(wanted);
  open().say({ type: 'error', id, problem: 'unknown-tag', title: 'Unknown tag', status: 404, detail: 'a/b' });
  expect(problems.at(-1)).toBe('Unknown tag: a/b');
  expect(stream.state.name).toBe('live');
});

test('delays are between half and all of what doubles up to 15 s', () => {
  expect([0, 1, 2, 10].map((attempt) => retryDelay(attempt, () => 0))).toEqual([250, 500, 1000, 7500]);
  expect([0, 1, 2, 10].map((attempt) => retryDelay(attempt, () => 1))).toEqual([500, 1000, 2000, 15_000]);
});
