/** The page's connection: the stream, why it does not open, and when it is tried at once. */
import { address, get, Problem, token } from '../data/api';
import { DecodedSocket } from '../data/decoder';
import { subprotocols } from '../data/protocol';
import { type ConnectionState, Stream } from '../data/stream';
import { text } from '../ui/strings';
import type { Problems } from './problems';

/** The stream, not started yet. `old`: whether it is told elsewhere that the server is away. */
export function connectStream(problems: Problems, old: () => boolean, onState: (state: ConnectionState) => void): Stream {
  const stream: Stream = new Stream({
    connect: () => new DecodedSocket(address('v1/stream?compression=zstd-dict', 'ws'), subprotocols(token())),
    onState,
    onProblem: (what) => problems.tell(what, 'connection'),
    diagnose: async () => (old() ? null : diagnose(problems, () => stream.retryNow())),
  });
  window.addEventListener('online', () => stream.retryNow());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') stream.retryNow();
  });
  return stream;
}

/** Why the WebSocket does not open: a browser does not tell, an HTTP request does. */
async function diagnose(problems: Problems, retry: () => void): Promise<string | null> {
  try {
    await get('v1/tags?match=historian-trend-page');
    return null;
  } catch (error) {
    if (!(error instanceof Problem)) return text.unreachable;
    problems.failed(error, 'connection', retry);
    return error.message;
  }
}
