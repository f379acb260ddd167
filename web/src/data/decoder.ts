/** The page's side of the decoding worker. */
import type { Decoded, Fault } from './connection';
import type { Answer, Request } from './decoder.worker';
import { type Columns, ProtocolError } from './protocol';

/** A WebSocket as the stream uses it, whose data frames come decoded. */
export interface Wire {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: string | Decoded | Fault }) => void) | null;
  onclose: (() => void) | null;
}

/** How long what comes waits for more of it. */
const TOGETHER_MS = 12;

let worker: Worker | null = null;
let ids = 0;
const wires = new Map<number, DecodedSocket>();
const pending = new Map<number, { resolve: (columns: Columns) => void; reject: (error: Error) => void }>();

/** What waits to be sent to the worker. */
let queue: Request[] = [];
let transfer: Transferable[] = [];

/** Frames of many subscriptions come at a time: they go to the worker together, and come back together, as each message between threads has its price. */
function post(request: Request, transferred: Transferable[] = []): void {
  queue.push(request);
  transfer.push(...transferred);
  if (request.type === 'samples') flush();
  else if (queue.length === 1) setTimeout(flush, TOGETHER_MS);
}

function flush(): void {
  if (queue.length === 0) return;
  worker ??= start();
  worker.postMessage(queue, transfer);
  queue = [];
  transfer = [];
}

function start(): Worker {
  const started = new Worker(new URL('./decoder.worker.ts', import.meta.url), { type: 'module' });
  started.onmessage = ({ data }: MessageEvent<Answer[]>) => data.forEach(take);
  // its file could not be loaded, or it has a fault of its own
  started.onerror = (event) => {
    const error = new ProtocolError(`The decoder has failed: ${event.message || 'its file could not be loaded'}`);
    for (const waiting of pending.values()) waiting.reject(error);
    pending.clear();
    for (const wire of wires.values()) wire.onmessage?.({ data: { fault: error.message } });
  };
  return started;
}

function take(answer: Answer): void {
  if (answer.type === 'message') {
    wires.get(answer.connection)?.onmessage?.({ data: answer.data });
    return;
  }
  const waiting = pending.get(answer.id);
  pending.delete(answer.id);
  if ('fault' in answer.columns) waiting?.reject(new ProtocolError(answer.columns.fault));
  else waiting?.resolve(answer.columns);
}

/** The samples of an Arrow IPC stream; `bytes` are taken away. Throws ProtocolError. */
export function decodeSamples(bytes: ArrayBuffer): Promise<Columns> {
  const id = ++ids;
  return new Promise((resolve, reject) => {
    pending.set(id, { resolve, reject });
    post({ type: 'samples', id, bytes }, [bytes]);
  });
}

/** A WebSocket whose messages pass through the worker. */
export class DecodedSocket implements Wire {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string | Decoded | Fault }) => void) | null = null;
  onclose: (() => void) | null = null;
  #id = ++ids;
  #socket: WebSocket;

  constructor(url: URL, subprotocols: string[]) {
    this.#socket = new WebSocket(url, subprotocols);
    this.#socket.binaryType = 'arraybuffer';
    wires.set(this.#id, this);
    this.#socket.onopen = () => this.onopen?.();
    this.#socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) =>
      post({ type: 'received', connection: this.#id, data }, typeof data === 'string' ? [] : [data]);
    this.#socket.onclose = () => {
      // what is still in the worker belongs to a connection that is gone: the next one brings it again
      wires.delete(this.#id);
      post({ type: 'closed', connection: this.#id });
      this.onclose?.();
    };
  }

  send(text: string): void {
    post({ type: 'sent', connection: this.#id, text });
    this.#socket.send(text);
  }

  close(code?: number, reason?: string): void {
    this.#socket.close(code, reason);
  }
}
