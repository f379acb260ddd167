/**
 * The connection to `/v1/stream`: one subscription for each pen, kept over lost connections.
 *
 * After a loss it connects again, at growing intervals, and each subscription goes on behind its last cursor; where the server no longer can, it sends a
 * gap and a fresh backfill. A gap of a slow client is handed on, to be fetched as a range.
 */
import type { Decoded } from './connection';
import type { Wire } from './decoder';
import { type ClientMessage, type Columns, type FrameHeader, ProtocolError, parseMessage, type SubscribeMessage, type Tag } from './protocol';

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
/** The server sends a heartbeat every 10 s: after this silence the connection is dead. */
const SILENCE_MS = 25_000;

export type ConnectionState =
  | { name: 'connecting' }
  | { name: 'live' }
  /** `at`: when the next attempt is due, in the milliseconds of Date.now() */
  | { name: 'reconnecting'; at: number }
  /** the browser has no network; tried all the same, as the server may be on this machine */
  | { name: 'offline'; at: number };

export interface Wanted {
  /** of a tag; of a calculated pen its expression; of several tags their paths and wildcards */
  readonly path: string | readonly string[];
  readonly calculated?: boolean;
  /** as the server describes what is subscribed to */
  readonly onTags?: (tags: readonly Tag[]) => void;
  /** the start of the backfill in µs, asked for anew at every subscribing */
  readonly from: () => number;
  readonly points: () => number;
  /** the live tail comes at most so often a second, thinned; left out: as it is */
  readonly rate?: number;
  readonly onColumns: (columns: Columns, header: FrameHeader) => void;
  /** a backfill comes that replaces what there is */
  readonly onRestart: () => void;
  /** the seam has passed: what there is up to now has come */
  readonly onLive: () => void;
  readonly onGap: (from: number, to: number) => void;
}

export interface StreamOptions {
  readonly connect: () => Wire;
  readonly onState: (state: ConnectionState) => void;
  /** what went wrong, or null once a connection is open again */
  readonly onProblem: (text: string | null) => void;
  /** asked after a connection that never opened: a browser does not say why. What it returns is shown. */
  readonly diagnose?: () => Promise<string | null>;
  readonly random?: () => number;
  /** whether the browser has a network */
  readonly online?: () => boolean;
}

class Subscription {
  cursor = 0;
  live = false;
  constructor(readonly wanted: Wanted) {}
}

/** How long to wait before attempt n (0, 1, 2 …): doubling, of which half at random, so that clients do not come back all at once. */
export function retryDelay(attempt: number, random: () => number): number {
  const full = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return full / 2 + (full / 2) * random();
}

export class Stream {
  #socket: Wire | null = null;
  #started = false;
  #open = false;
  #attempt = 0;
  #state: ConnectionState = { name: 'connecting' };
  #subscriptions = new Map<number, Subscription>();
  #retry: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #frames = 0;
  #heard = 0;
  #id = 0;

  constructor(private readonly options: StreamOptions) {}

  get state(): ConnectionState {
    return this.#state;
  }

  /** Data frames taken so far. */
  get frames(): number {
    return this.#frames;
  }

  /** When anything last came, in the milliseconds of Date.now(). */
  get heard(): number {
    return this.#heard;
  }

  /** Once; from then on it connects again by itself. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#connect();
  }

  /** Try at once, as when the browser is online again. */
  retryNow(): void {
    if (this.#state.name !== 'reconnecting' && this.#state.name !== 'offline') return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  /** Open a subscription. Returns its id, which no other had on this connection: what is still on its way for an old one is told apart. */
  subscribe(wanted: Wanted): number {
    do this.#id = (this.#id + 1) % 0x10000;
    while (this.#subscriptions.has(this.#id));
    this.#subscriptions.set(this.#id, new Subscription(wanted));
    if (this.#open) this.#sendSubscribe(this.#id);
    this.#settle();
    return this.#id;
  }

  unsubscribe(id: number): void {
    if (!this.#subscriptions.delete(id)) return;
    if (this.#open) this.#send({ type: 'unsubscribe', id });
    this.#settle();
  }

  #connect(): void {
    if (this.#state.name !== 'connecting') this.#setState({ name: 'connecting' });
    const socket = this.options.connect();
    let opened = false;
    this.#socket = socket;
    socket.onopen = () => {
      opened = true;
      this.#open = true;
      this.options.onProblem(null);
      this.#listen();
      for (const id of this.#subscriptions.keys()) this.#sendSubscribe(id);
      this.#settle();
    };
    socket.onmessage = (event) => {
      this.#listen();
      try {
        if (typeof event.data === 'string') this.#control(event.data);
        else if ('fault' in event.data) throw new ProtocolError(event.data.fault);
        else this.#frame(event.data);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        // what came may have been lost in part: a fresh connection brings it again
        this.options.onProblem(error.message);
        socket.close(4000, 'protocol error');
      }
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lost(opened);
    };
  }

  /** Anything that comes shows that the connection lives. */
  #listen(): void {
    this.#heard = Date.now();
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const socket = this.#socket;
      if (socket === null) return;
      // a dead connection may take minutes to close
      socket.onclose = null;
      socket.onmessage = null;
      socket.close();
      this.#lost(true);
    }, SILENCE_MS);
  }

  #lost(opened: boolean): void {
    clearTimeout(this.#watchdog);
    this.#socket = null;
    this.#open = false;
    for (const subscription of this.#subscriptions.values()) subscription.live = false;
    const delay = retryDelay(this.#attempt++, this.options.random ?? Math.random);
    const online = this.options.online ?? (() => navigator.onLine);
    this.#setState({ name: online() ? 'reconnecting' : 'offline', at: Date.now() + delay });
    this.#retry = setTimeout(() => this.#connect(), delay);
    if (!opened && this.options.diagnose) void this.options.diagnose().then((text) => text !== null && this.options.onProblem(text));
  }

  #sendSubscribe(id: number): void {
    const subscription = this.#subscriptions.get(id)!;
    const { wanted, cursor } = subscription;
    subscription.live = false;
    const message: SubscribeMessage = {
      type: 'subscribe',
      id,
      tags: wanted.calculated ? [] : [wanted.path].flat(),
      from: Math.floor(wanted.from()),
      mode: 'auto',
      points: wanted.points(),
    };
    if (wanted.calculated) message.expressions = [wanted.path].flat();
    if (wanted.rate !== undefined) message.max_rate = wanted.rate;
    if (cursor > 0) message.cursor = cursor;
    this.#send(message);
  }

  #send(message: ClientMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #frame({ header, columns }: Decoded): void {
    this.#frames++;
    const subscription = this.#subscriptions.get(header.subscription);
    // one that was closed while this was being decoded
    if (subscription === undefined) return;
    if (header.cursor > 0) subscription.cursor = header.cursor;
    if (columns.ts.length > 0) subscription.wanted.onColumns(columns, header);
  }

  #control(text: string): void {
    const message = parseMessage(text);
    if (message === null) return;
    if (message.type === 'error') {
      this.options.onProblem(message.detail ? `${message.title}: ${message.detail}` : message.title);
      const refused = message.id === undefined ? undefined : this.#subscriptions.get(message.id);
      if (refused !== undefined) {
        refused.live = true;
        this.#settle();
      }
      return;
    }
    if (message.type === 'heartbeat') return;
    const subscription = this.#subscriptions.get(message.id);
    if (subscription === undefined) return;
    if (message.type === 'subscribed') {
      subscription.wanted.onTags?.(message.tags);
      if (message.resumed !== true) {
        // what the pen has is dropped: a connection lost in the midst of this backfill must not go on behind the old cursor
        subscription.cursor = 0;
        subscription.wanted.onRestart();
      }
    } else if (message.type === 'tags') {
      // that a wildcard has come to match
      subscription.wanted.onTags?.(message.tags);
    } else if (message.type === 'changed') {
      // no change was asked for
      return;
    } else if (message.type === 'live') {
      if (message.cursor > 0) subscription.cursor = message.cursor;
      subscription.live = true;
      subscription.wanted.onLive();
      this.#settle();
    } else if (message.reason !== 'cursor-expired') {
      // of an expired cursor the backfill that follows brings it
      subscription.wanted.onGap(microseconds(message.from), microseconds(message.to));
    }
  }

  /** Live once every subscription has passed its seam. */
  #settle(): void {
    if (!this.#open) return;
    const live = [...this.#subscriptions.values()].every((subscription) => subscription.live);
    if (live) this.#attempt = 0;
    if (live && this.#state.name !== 'live') this.#setState({ name: 'live' });
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.options.onState(state);
  }
}

/** RFC 3339 with up to six decimals, in µs: Date would cut them to three. */
export function microseconds(time: string): number {
  const decimals = /\.(\d+)/.exec(time)?.[1] ?? '';
  const whole = Date.parse(time.replace(/\.\d+/, ''));
  return whole * 1000 + Number(decimals.slice(0, 6).padEnd(6, '0'));
}
