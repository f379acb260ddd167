/** Documents on the server, of one kind: saved views, dashboards. */
import { get, send } from './api';

export type Kind = 'views' | 'dashboards';

export interface Described {
  readonly name: string;
  readonly title: string;
  readonly etag: string;
}

/** All of a kind, by name. Throws as `get`. */
export async function listDocuments(kind: Kind): Promise<Described[]> {
  return ((await (await get(`v1/${kind}`)).json()) as Record<Kind, Described[]>)[kind];
}

/** A document and its etag. Throws as `get`. */
export async function readDocument<T>(kind: Kind, name: string): Promise<{ document: T; etag: string }> {
  const response = await get(at(kind, name));
  return { document: (await response.json()) as T, etag: response.headers.get('ETag') ?? '' };
}

/** Store a document in place of the one with this etag; null: a new one. Returns its etag. Throws Problem, of status 412 where another stands. */
export async function storeDocument(kind: Kind, name: string, document: unknown, etag: string | null): Promise<string> {
  const condition: Record<string, string> = etag === null ? { 'If-None-Match': '*' } : { 'If-Match': etag };
  const response = await send('PUT', at(kind, name), { headers: { 'Content-Type': 'application/json', ...condition }, body: JSON.stringify(document) });
  return response.headers.get('ETag') ?? '';
}

/** Throws Problem, with the faults of a document that is not as it has to be. Nothing is stored. */
export async function checkDocument(kind: Kind, document: unknown): Promise<void> {
  await send('PUT', `${at(kind, 'x')}?dry_run=true`, { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(document) });
}

export async function deleteDocument(kind: Kind, name: string): Promise<void> {
  await send('DELETE', at(kind, name));
}

function at(kind: Kind, name: string): string {
  return `v1/${kind}/${encodeURIComponent(name)}`;
}

/** The name, in addresses, of what a person calls so: `Line 1, start` is line-1-start. */
export function nameOf(title: string): string {
  const plain = title.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  return plain.replace(/[^a-z0-9_.]+/g, '-').replace(/^[^a-z0-9]+|-+$/g, '').slice(0, 100);
}
