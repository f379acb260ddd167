/** Vite plugin: tells the service worker which files the build has made. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';
import type { Build } from './src/offline/build';

const PLACEHOLDER = '__BUILD__';
/** By file: the address under which the server has it. */
const PAGES: Readonly<Record<string, string>> = { 'index.html': './', 'dashboards.html': './dashboards' };

function digest(content: string | Uint8Array): string {
  return `sha256-${createHash('sha256').update(content).digest('base64')}`;
}

function publicFiles(below: string, folder = ''): string[] {
  return readdirSync(join(below, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    return entry.isDirectory() ? publicFiles(below, path) : [path];
  });
}

/** Put the list into the chunk of this name. */
export function precache(worker: string): Plugin {
  let publicDir = '';
  return {
    name: 'precache',
    enforce: 'post',
    configResolved: (config) => {
      publicDir = config.publicDir;
    },
    generateBundle: {
      // when the pages and the worker of the decoder are there
      order: 'post',
      handler(_options, bundle) {
        const chunk = bundle[worker];
        if (chunk?.type !== 'chunk') throw new Error(`no ${worker} was built`);
        if (chunk.imports.length > 0) throw new Error(`${worker} is to be one file`);
        const files = new Map<string, string>();
        for (const [name, made] of Object.entries(bundle)) {
          if (made !== chunk) files.set(PAGES[name] ?? `./${name}`, digest(made.type === 'chunk' ? made.code : made.source));
        }
        for (const name of publicFiles(publicDir)) files.set(`./${name}`, digest(readFileSync(join(publicDir, name))));
        const sorted = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
        const build: Build = { version: createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 16), pages: Object.values(PAGES), files: Object.fromEntries(sorted) };
        if (!chunk.code.includes(PLACEHOLDER)) throw new Error(`${worker} has no place for the list of files`);
        chunk.code = `const ${PLACEHOLDER} = ${JSON.stringify(build)};\n${chunk.code}`;
      },
    },
  };
}
