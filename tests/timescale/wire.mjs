/**
 * PostgreSQL's protocol between one client and a PostgreSQL in WebAssembly.
 *
 * That one has no way to wait for input: it is called with bytes, and runs until it has answered them. What it is called with must be one whole message. Of less, it
 * ends ("unreachable"); of several, it loses those behind one that ends where its buffer of 8 KB does, and the client waits for ever. So messages are cut out of what
 * the socket brings, and handed on one at a time. What a server does between messages stands here:
 *
 * - the start of a session, which that build takes for the start of its only one;
 * - after an error in the extended protocol, what comes before the next Sync is skipped, and there is one ReadyForQuery, for the Sync (it gives one for the error too);
 * - COPY FROM STDIN, which would wait for its data, is refused.
 */

const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;

const ERROR = 'E'.charCodeAt(0);
const READY = 'Z'.charCodeAt(0);

/** what is in a startup message and no setting of the session */
const NO_SETTINGS = new Set(['database', 'replication', 'options', 'client_encoding']);

const COPY_FROM = /\bcopy\b[^;]*\bfrom\s+stdin\b/i;

const message = (type, body) => {
  const bytes = Buffer.alloc(5 + body.length);
  bytes.write(type, 0, 'latin1');
  bytes.writeInt32BE(4 + body.length, 1);
  body.copy(bytes, 5);
  return bytes;
};

const words = (...all) => Buffer.from(all.map((word) => `${word}\0`).join(''), 'utf8');

const failure = (severity, code, text) => message('E', Buffer.concat([words(`S${severity}`, `V${severity}`, `C${code}`, `M${text}`), Buffer.alloc(1)]));

const ready = message('Z', Buffer.from('I'));

/** The messages of an answer; they are views of it. */
function* messages(answer) {
  for (let at = 0; at < answer.length; ) {
    const end = at + 1 + answer.readInt32BE(at + 1);
    yield answer.subarray(at, end);
    at = end;
  }
}

/** The names and values in a startup message that are settings of the session. */
function settings(startup) {
  const all = startup.subarray(8).toString('utf8').split('\0');
  const found = [];
  for (let i = 0; i + 1 < all.length && all[i] !== ''; i += 2) {
    // there is one session, of a superuser, which becomes whoever comes
    if (all[i] === 'user') found.unshift(['session_authorization', all[i + 1]]);
    else if (!NO_SETTINGS.has(all[i])) found.push([all[i], all[i + 1]]);
  }
  return found;
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

/** Whole messages, cut out of what a socket brings. The first ones, up to that which starts the session, have no type. */
async function* cut(socket) {
  let unread = [];
  let size = 0;
  let wanted = 4;
  let head = 0;
  for await (const data of arriving(socket)) {
    unread.push(data);
    size += data.length;
    while (size >= wanted) {
      const all = unread.length === 1 ? unread[0] : Buffer.concat(unread);
      const end = head + all.readInt32BE(head);
      unread = [all];
      wanted = end;
      if (size < end) break;
      const whole = all.subarray(0, end);
      unread = [all.subarray(end)];
      size -= end;
      if (head === 0 && ![SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST].includes(whole.readInt32BE(4))) head = 1;
      wanted = head + 4;
      yield whole;
    }
  }
}

const isOffer = (code) => code === SSL_REQUEST || code === GSS_REQUEST;

/** Tell a client that there is no room for it. */
export async function refuse(socket) {
  for await (const whole of cut(socket)) {
    if (isOffer(whole.readInt32BE(4))) socket.write('N');
    else socket.end(failure('FATAL', '53300', 'sorry, too many clients already'));
  }
}

/**
 * Serve a client until it has gone. `database` has `begin(settings)`, which gives the parameters that a client is told, `take(message)`, which gives the answer, and `end()`.
 */
export async function serve(database, socket) {
  const say = (bytes) => {
    if (socket.writable && bytes.length) socket.write(bytes);
  };
  let started = false;
  let skipping = false;

  const start = async (startup) => {
    const code = startup.readInt32BE(4);
    if (isOffer(code)) return say(Buffer.from('N'));
    if (code === CANCEL_REQUEST) return socket.end();
    started = true;
    const told = await database.begin(settings(startup));
    if (told.error !== undefined) return socket.end(failure('FATAL', '22023', told.error));
    const parameters = told.parameters.map(([name, value]) => message('S', words(name, value)));
    return say(Buffer.concat([message('R', Buffer.alloc(4)), ...parameters, message('K', Buffer.alloc(8)), ready]));
  };

  const take = async (whole) => {
    const type = String.fromCharCode(whole[0]);
    if (type === 'X') return socket.end();
    // all is sent at once as it is
    if (type === 'H' || (skipping && type !== 'S')) return undefined;
    if ((type === 'Q' || type === 'P') && COPY_FROM.test(whole.subarray(5).toString('utf8'))) {
      skipping = type === 'P';
      say(failure('ERROR', '0A000', 'this TimescaleDB in WebAssembly cannot COPY FROM STDIN; use INSERT'));
      // the transaction, if one is open, does not know of it
      return type === 'Q' ? say(await database.take(message('S', Buffer.alloc(0)))) : undefined;
    }
    const answer = await database.take(whole);
    const found = [...messages(answer)];
    const isLast = type === 'Q' || type === 'S';
    if (isLast && found.at(-1)?.[0] !== READY) throw new Error(`no ReadyForQuery in the answer to a ${type}`);
    skipping = !isLast && found.some((one) => one[0] === ERROR);
    return say(isLast ? answer : Buffer.concat(found.filter((one) => one[0] !== READY)));
  };

  for await (const whole of cut(socket)) await (started ? take(whole) : start(whole));
  if (started) await database.end();
}
