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

let worker: Worker | null = null;
let ids = 0;
const wires = new Map<number, DecodedSocket>();
const pending = new Map<number, { resolve: (columns: Columns) => void; reject: (error: Error) => void }>();

function post(request: Request, transfer: Transferable[] = []): void {
  if (worker === null) {
    worker = new Worker(new URL('./decoder.worker.ts', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }: MessageEvent<Answer>) => take(data);
    // its file could not be loaded, or it has a fault of its own
    worker.onerror = (event) => {
      const error = new ProtocolError(`The decoder has failed: ${event.message || 'its file could not be loaded'}`);
      for (const waiting of pending.values()) waiting.reject(error);
      pending.clear();
      for (const wire of wires.values()) wire.onmessage?.({ data: { fault: error.message } });
    };
  }
  worker.postMessage(request, transfer);
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
