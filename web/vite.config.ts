import { defineConfig } from 'vite';

// relative addresses: the page also works below a path of a proxy
export default defineConfig({
  base: './',
  build: {
    outDir: '../historian/server/static',
    emptyOutDir: true,
    rolldownOptions: { input: ['index.html', 'dashboards.html'] },
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
