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

function answer(request: Request): Answer | null {
  if (request.type === 'samples') return { type: 'samples', id: request.id, columns: samples(request.bytes) };
  if (request.type === 'sent') connection(request.connection).sent(request.text);
  else if (request.type === 'closed') connections.delete(request.connection);
  else {
    const data = typeof request.data === 'string' ? request.data : connection(request.connection).frame(new Uint8Array(request.data));
    if (data !== null) return { type: 'message', connection: request.connection, data };
  }
  return null;
}

/** The columns of an answer, if it has any. */
function columnsOf(of: Answer): Columns | null {
  if (of.type === 'samples') return 'fault' in of.columns ? null : of.columns;
  return typeof of.data === 'string' || 'fault' in of.data ? null : of.data.columns;
}

self.onmessage = ({ data: requests }: MessageEvent<Request[]>) => {
  const answers = requests.map(answer).filter((one) => one !== null);
  const columns = answers.map(columnsOf).filter((one) => one !== null);
  const transfer = columns.flatMap((one) => [one.tagId, one.ts, one.value, one.quality].map((array) => array.buffer as ArrayBuffer));
  if (answers.length > 0) self.postMessage(answers, { transfer });
};
