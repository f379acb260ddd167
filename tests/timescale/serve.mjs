/**
 * A TimescaleDB in this process, in memory, for one client at a time; another one is refused as by a server that has no connection left.
 *
 *     node serve.mjs DEADLINE_S [DUMP]      starts with what stands in DUMP, else with an empty database
 *
 * Says `{"ready":PORT}` on stdout, a line, once it listens on that port of 127.0.0.1, and ends with its stdin: it does not outlive who started it. A line
 * `dump FILE` on stdin, sent while no client is connected, writes all that it holds to a file, and is answered with `{"dumped":FILE}`.
 *
 * A database that breaks, or works on one message for longer than the deadline, is of no more use: the process says so on stderr and ends, and so does the connection.
 */

import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { Worker } from 'node:worker_threads';
import { refuse, serve } from './wire.mjs';

/** one that has said goodbye may be overtaken by the next */
const GRACE_MS = 500;

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const giveUp = (why) => {
  console.error(why);
  process.exit(1);
};

const [deadline, dump] = process.argv.slice(2);
const DEADLINE_MS = Number(deadline) * 1000;

// PostgreSQL's own limit of its stack is 2 MB; frames in WebAssembly take more than that
const thread = new Worker(new URL('database.mjs', import.meta.url), { workerData: { dump }, resourceLimits: { stackSizeMb: 32 } });
thread.on('error', (error) => giveUp(`the database broke: ${error.stack ?? error}`));
thread.on('exit', (code) => giveUp(`the database ended with code ${code}`));

const asked = new Map();
const answered = (number, what) =>
  new Promise((resolve) => {
    const late = setTimeout(() => giveUp(`the database is wedged, or slow beyond use: more than ${deadline} s for ${what}`), DEADLINE_MS);
    asked.set(number, (answer) => {
      clearTimeout(late);
      resolve(answer);
    });
  });
thread.on('message', ([number, answer]) => {
  asked.get(number)(answer);
  asked.delete(number);
});

let numbers = 0;
const call = (what, argument, shown = what) => {
  numbers += 1;
  const answer = answered(numbers, shown);
  thread.postMessage([numbers, what, argument]);
  return answer;
};
const database = {
  begin: (settings) => call('begin', settings),
  take: async (message) => Buffer.from((await call('take', new Uint8Array(message), message.subarray(0, 2000).toString('latin1'))).buffer),
  end: () => call('end'),
};

// who started us waits as long as it likes
await new Promise((resolve) => asked.set(0, resolve));

let turn = Promise.resolve();
let client = null;
const inTurn = (work) => {
  turn = turn.then(work).catch((error) => giveUp(error.stack));
};

const take = (socket) => {
  client = socket;
  inTurn(() => serve(database, socket));
};

const server = createServer({ noDelay: true }, (socket) => {
  const isFree = () => client === null || client.readableEnded || client.destroyed;
  if (isFree()) return take(socket);
  const leaving = client;
  let decided = false;
  const decide = () => {
    if (decided) return;
    decided = true;
    clearTimeout(waiting);
    if (isFree()) take(socket);
    else refuse(socket);
  };
  // on a loaded machine the time may be up before a goodbye that has long arrived is read
  const waiting = setTimeout(() => setTimeout(() => setImmediate(decide), 1), GRACE_MS);
  leaving.once('close', decide);
  return undefined;
});
server.listen(0, '127.0.0.1', () => tell({ ready: server.address().port }));

const orders = createInterface({ input: process.stdin });
orders.on('line', (line) => {
  const file = line.replace(/^dump /, '');
  inTurn(async () => {
    await call('dump', file);
    tell({ dumped: file });
  });
});
orders.on('close', () => process.exit(0));
