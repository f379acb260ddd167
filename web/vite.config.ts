import { defineConfig } from 'vite';
import { precache } from './precache';

// relative addresses: the page also works below a path of a proxy
export default defineConfig({
  base: './',
  plugins: [precache('sw.js')],
  build: {
    outDir: '../historian/server/static',
    emptyOutDir: true,
    rolldownOptions: {
      input: { index: 'index.html', dashboards: 'dashboards.html', sw: 'src/offline/sw.ts' },
      // the address of a service worker never changes, and what lies below it is what it may keep
      output: { entryFileNames: ({ name }) => (name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js') },
    },
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  worker: { format: 'es' },
  server: {
    proxy: { '/v1': { target: 'http://127.0.0.1:8742', ws: true } },
  },
});
