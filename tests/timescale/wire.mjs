/**
 * PostgreSQL's protocol between one socket and a PGlite: cuts what arrives into messages, and hands them on in the portions that a PostgreSQL in WebAssembly can take.
 *
 * It has no way to wait for input in the middle of a statement: it runs each portion to its end, and a message that is not all there ends the process. So a portion
 * is a simple query, or all messages up to a Sync or Flush, or a whole COPY FROM STDIN with its data, whose beginning is answered here.
 * (@electric-sql/pglite-socket 0.0.19 hands on what the socket brings as it comes, and dies of statements above 64 KB and of every COPY FROM STDIN.)
 */

const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
const COPY_IN = 'G'.charCodeAt(0);
/** settings in a startup message that are none of a session */
const NO_SETTINGS = new Set(['user', 'database', 'replication', 'options', 'client_encoding']);

/** what a server starts sessions with; PGlite's own are those of making a cluster, with the messages of debugging */
const DEFAULTS = [['search_path', '"$user", public'], ['client_min_messages', 'notice']];
/** asyncpg's pools send it with every connection that is given back */
const RESET = /\b(reset|discard)\s+all\b/i;
const IDLE = 'I'.charCodeAt(0);

/** a COPY FROM STDIN, the only statement of its query */
const COPY_FROM = /^\s*copy\s[^;]*\sfrom\s+stdin\b/i;

const portion = (type, body = Buffer.alloc(0)) => {
  const message = Buffer.alloc(5 + body.length);
  message.write(type, 0, 'latin1');
  message.writeInt32BE(4 + body.length, 1);
  body.copy(message, 5);
  return message;
};

/** The names and values of a startup message, without what names the user and the database. */
function settings(startup) {
  const words = startup.subarray(8).toString('utf8').split('\0');
  const found = [];
  for (let i = 0; i + 1 < words.length && words[i] !== ''; i += 2) {
    if (!NO_SETTINGS.has(words[i])) found.push([words[i], words[i + 1]]);
  }
  return found;
}

/** All messages of an answer, but those of a type. */
function without(type, answer) {
  const kept = [];
  for (let at = 0; at + 5 <= answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    if (answer[at] !== type) kept.push(answer.subarray(at, at + 1 + answer.readInt32BE(at + 1)));
  }
  return Buffer.concat(kept);
}

/** What a socket brings, to its end; that it broke is an end like another. */
async function* arriving(socket) {
  socket.on('error', () => undefined);
  try {
    yield* socket;
  } catch {
    // what is thrown where this is read does not come by here
  }
}

/** Serve a socket to its end. Resolves when it has gone; rejects where the database itself broke, which nothing can be done about. */
export async function serve(db, socket) {
  let unread = Buffer.alloc(0);
  let started = false;
  let waiting = [];
  let copying = null;
  let wanted = [];

  const ask = async (bytes) => Buffer.from(await db.execProtocolRaw(new Uint8Array(bytes)));
  const say = (bytes) => new Promise((said) => (socket.writable && bytes.length ? socket.write(bytes, () => said()) : said()));

  /** The next message that is all there, or null. */
  const next = () => {
    const head = started ? 1 : 0;
    if (unread.length < head + 4) return null;
    const end = head + unread.readInt32BE(head);
    if (unread.length < end) return null;
    const message = unread.subarray(0, end);
    unread = unread.subarray(end);
    return message;
  };

  const set = async () => {
    for (const [name, value] of [...DEFAULTS, ...wanted]) await db.query('SELECT set_config($1, $2, false)', [name, value]);
  };

  const begin = async (message) => {
    const code = message.readInt32BE(4);
    if (code === SSL_REQUEST || code === GSS_REQUEST) return say(Buffer.from('N'));
    if (code === CANCEL_REQUEST) return socket.end();
    started = true;
    wanted = settings(message);
    await set();
    return say(await ask(message));
  };

  const take = async (message) => {
    const type = String.fromCharCode(message[0]);
    if (type === 'X') return socket.end();
    if (copying !== null) {
      copying.push(message);
      if (type !== 'c' && type !== 'f') return undefined;
      const whole = Buffer.concat(copying);
      copying = null;
      return say(without(COPY_IN, await ask(whole)));
    }
    const query = type === 'Q' ? message.subarray(5, -1).toString('utf8') : '';
    if (COPY_FROM.test(query)) {
      copying = [message];
      // columns are not counted: clients ask for the format only
      return say(portion('G', Buffer.from([/\bbinary\b/i.test(query) ? 1 : 0, 0, 0])));
    }
    waiting.push(message);
    if (type === 'Q' || type === 'S' || type === 'H' || type === 'p') {
      const whole = Buffer.concat(waiting);
      waiting = [];
      const answer = await ask(whole);
      // to what the session began with, not to what the process did
      if (RESET.test(query) && answer.at(-1) === IDLE) await set();
      return say(answer);
    }
    return undefined;
  };

  for await (const data of arriving(socket)) {
    unread = unread.length ? Buffer.concat([unread, data]) : data;
    for (let message = next(); message !== null; message = next()) await (started ? take(message) : begin(message));
  }
  // what the next client must not find: an open transaction, settings, temporary tables, prepared statements, advisory locks
  if (started) {
    await ask(portion('S'));
    await db.exec('ROLLBACK');
    await db.exec('DISCARD ALL');
  }
}
