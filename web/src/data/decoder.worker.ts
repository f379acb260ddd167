/** The worker that decodes: zstd and Arrow take no time of the thread that draws. Messages go out in the order in which they came in. */
import { ConnectionDecoder, type Decoded, type Fault } from './connection';
import { readColumns } from './frames';
import { type Columns, ProtocolError } from './protocol';

export type Request =
  | { readonly type: 'sent'; readonly connection: number; readonly text: string }
  /** text passes through, so that it keeps its place among the frames */
  | { readonly type: 'received'; readonly connection: number; readonly data: string | ArrayBuffer }
  | { readonly type: 'closed'; readonly connection: number }
  | { readonly type: 'samples'; readonly id: number; readonly bytes: ArrayBuffer };

export type Answer =
  | { readonly type: 'message'; readonly connection: number; readonly data: string | Decoded | Fault }
  | { readonly type: 'samples'; readonly id: number; readonly columns: Columns | Fault };

const connections = new Map<number, ConnectionDecoder>();

function connection(id: number): ConnectionDecoder {
  const found = connections.get(id) ?? new ConnectionDecoder();
  connections.set(id, found);
  return found;
}

function samples(bytes: ArrayBuffer): Columns | Fault {
  try {
    return readColumns(new Uint8Array(bytes));
  } catch (error) {
    if (error instanceof ProtocolError) return { fault: error.message };
    throw error;
  }
}

function answer(message: Answer, columns: Columns | null): void {
  const arrays = columns === null ? [] : [columns.tagId, columns.ts, columns.value, columns.quality];
  self.postMessage(message, { transfer: arrays.map((array) => array.buffer as ArrayBuffer) });
}

self.onmessage = ({ data: request }: MessageEvent<Request>) => {
  if (request.type === 'sent') {
    connection(request.connection).sent(request.text);
  } else if (request.type === 'closed') {
    connections.delete(request.connection);
  } else if (request.type === 'samples') {
    const columns = samples(request.bytes);
    answer({ type: 'samples', id: request.id, columns }, 'fault' in columns ? null : columns);
  } else if (typeof request.data === 'string') {
    answer({ type: 'message', connection: request.connection, data: request.data }, null);
  } else {
    const data = connection(request.connection).frame(new Uint8Array(request.data));
    if (data !== null) answer({ type: 'message', connection: request.connection, data }, 'fault' in data ? null : data.columns);
  }
};
