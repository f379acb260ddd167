/** Has the browser keep the page (sw.ts), and tells when the server has a newer one. */
import { address } from '../data/api';

/** A page that is open for weeks asks so often; and whenever it is connected again. */
const ASK_MS = 3_600_000;

let registration: ServiceWorkerRegistration | undefined;

/** `onNewer`: another version than this page is kept now. Does nothing where browsers have no service workers: without https (or localhost). */
export async function keepPage(onNewer: () => void): Promise<void> {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return;
  const look = async (): Promise<void> => {
    if (!(await isKept())) onNewer();
  };
  navigator.serviceWorker.addEventListener('controllerchange', () => void look());
  try {
    registration = await navigator.serviceWorker.register(address('sw.js'), { scope: address('.').pathname });
  } catch {
    // forbidden by settings, or without a server: the page works as without
    return;
  }
  setInterval(() => void askForNewer(), ASK_MS);
}

/** As after a restart of the server, which may be one of another version. */
export async function askForNewer(): Promise<void> {
  await registration?.update().catch(() => undefined);
}

/** Whether this page is of the version that the service worker keeps. */
function isKept(): Promise<boolean> {
  const files = [...document.querySelectorAll<HTMLScriptElement | HTMLLinkElement>('script[src], link[rel="stylesheet"], link[rel="modulepreload"]')];
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = ({ data }: MessageEvent<boolean>) => resolve(data);
    navigator.serviceWorker.controller?.postMessage(
      files.map((file) => ('src' in file ? file.src : file.href)),
      [channel.port2],
    );
  });
}
