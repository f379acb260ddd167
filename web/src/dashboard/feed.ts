/**
 * The live data of a dashboard: one connection, and on it a subscription for each span of time, whose tiles share it. Times are µs.
 *
 * Tags that the server does not know are left out of what is asked for, since one of them would have all refused, and are looked for again now and then.
 */
import { getTags } from '../data/api';
import type { Clock } from '../data/clock';
import type { Columns, Tag } from '../data/protocol';
import { byTag, fetchAt, fetchNewest, fetchRange } from '../data/range';
import { Store } from '../data/store';
import type { KeptSeries } from '../offline/kept';
import type { Stream } from '../data/stream';

/** What a tile draws: a path or wildcard, how far back, and at how many points a tag. */
export interface Request {
  readonly pattern: string;
  readonly span: number;
  readonly points: number;
}

export interface Series {
  readonly tag: Tag;
  readonly store: Store;
}

/** Live samples come so often a second at the most. */
const RATE = 4;
const LOOK_AGAIN_MS = 5_000;
/** What one tile shows of a wildcard. */
const MAX_MATCHES = 500;
/** Tags asked for one by one. */
const FEW = 20;
/** An address has room for so many paths. */
const MOST_HELD = 100;

interface Group {
  id: number;
  readonly span: number;
  readonly patterns: readonly string[];
  readonly points: number;
  readonly series: Map<number, Series>;
  live: boolean;
}

export class Feed {
  #requests: readonly Request[] = [];
  #groups = new Map<number, Group>();
  #tags = new Map<string, Tag>();
  #known = false;
  /** what was known once, by span and path, until the server answers */
  #kept = new Map<string, KeptSeries>();
  #timer: ReturnType<typeof setInterval>;

  constructor(
    private readonly stream: Stream,
    private readonly clock: Clock,
    private readonly events: { onData: () => void; onProblem: (error: unknown) => void },
  ) {
    this.#timer = setInterval(() => {
      if (document.visibilityState === 'visible') void this.#lookAgain();
    }, LOOK_AGAIN_MS);
  }

  /** All tags, by path. */
  get tags(): ReadonlyMap<string, Tag> {
    return this.#tags;
  }

  /** Whether it is known which tags there are. */
  get known(): boolean {
    return this.#known;
  }

  /** Ask for the catalogue, and for what has come to be known. */
  async loadTags(): Promise<void> {
    try {
      this.#tags = new Map((await getTags()).map((tag) => [tag.path, tag]));
      this.#known = true;
      this.set(this.#requests);
    } catch (error) {
      this.events.onProblem(error);
    }
  }

  /** What there is, at most so many samples, to be kept. */
  keep(most: number): KeptSeries[] {
    const all = [...this.#groups.values()].flatMap((group) => [...group.series.values()].map((series) => ({ span: group.span, ...series })));
    const each = Math.floor(most / Math.max(1, all.length));
    return all.map(({ span, tag, store }) => ({ id: idOf(span, tag), tag, columns: store.columns(tag.tag_id, each) }));
  }

  /** What was known once: shown from the next `set` on, until the server answers. */
  restore(tags: readonly Tag[], kept: readonly KeptSeries[]): void {
    this.#tags = new Map(tags.map((tag) => [tag.path, tag]));
    this.#known = true;
    this.#kept = new Map(kept.map((series) => [series.id, series]));
    this.set([]);
  }

  /** Whether tags that were unknown have come to be. */
  async #lookAgain(): Promise<void> {
    try {
      const found = await Promise.all([...new Set(this.unknown())].slice(0, FEW).map((path) => getTags(path)));
      for (const tag of found.flat()) this.#tags.set(tag.path, tag);
      if (found.flat().length > 0) this.set(this.#requests);
    } catch {
      // the connection's state tells of a server that is away
    }
  }

  close(): void {
    clearInterval(this.#timer);
    for (const group of this.#groups.values()) this.stream.unsubscribe(group.id);
    this.#groups.clear();
  }

  /** What tiles want, all of them. What they wanted before and want no more ends. */
  set(requests: readonly Request[]): void {
    this.#requests = requests;
    if (!this.#known) return;
    const wanted = grouped(requests.filter(({ pattern }) => isWildcard(pattern) || this.#tags.has(pattern)));
    for (const [span, group] of this.#groups) {
      const same = wanted.get(span);
      if (same !== undefined && same.points <= group.points && same.patterns.join('\n') === group.patterns.join('\n')) wanted.delete(span);
      else {
        this.stream.unsubscribe(group.id);
        this.#groups.delete(span);
      }
    }
    for (const [span, { patterns, points }] of wanted) this.#open({ id: -1, span, patterns, points, series: new Map(), live: false });
    this.events.onData();
  }

  /** Paths that tiles want and that there are not. */
  unknown(): string[] {
    return this.#known ? this.#requests.map(({ pattern }) => pattern).filter((pattern) => !isWildcard(pattern) && !this.#tags.has(pattern)) : [];
  }

  /** What there is of a tag; null: nothing yet. */
  series(path: string, span: number): Series | null {
    const tag = this.#tags.get(path);
    return tag === undefined ? null : (this.#groups.get(span)?.series.get(tag.tag_id) ?? null);
  }

  /** Whether all that there was when it was asked for has come. */
  live(span: number): boolean {
    return this.#groups.get(span)?.live ?? false;
  }

  /** All that matches, by path. */
  matching(pattern: string, span: number): Series[] {
    const regex = wildcard(pattern);
    const found = [...(this.#groups.get(span)?.series.values() ?? [])].filter(({ tag }) => regex.test(tag.path));
    return found.sort((a, b) => (a.tag.path < b.tag.path ? -1 : 1)).slice(0, MAX_MATCHES);
  }

  #open(group: Group): void {
    this.#groups.set(group.span, group);
    for (const { id, tag, columns } of this.#kept.values()) {
      if (id !== idOf(group.span, tag)) continue;
      const store = new Store();
      store.add(columns);
      group.series.set(tag.tag_id, { tag, store });
      group.live = true;
    }
    group.id = this.stream.subscribe({
      path: group.patterns,
      rate: RATE,
      from: () => this.clock.now() - group.span,
      points: () => group.points,
      onTags: (tags) => {
        // made since, and found by a wildcard: other tiles may have waited for it
        const awaited = tags.some(({ path }) => !this.#tags.has(path) && this.#requests.some(({ pattern }) => pattern === path));
        if (awaited) queueMicrotask(() => this.set(this.#requests));
        for (const tag of tags) {
          this.#tags.set(tag.path, tag);
          if (!group.series.has(tag.tag_id)) group.series.set(tag.tag_id, { tag, store: new Store() });
        }
      },
      onRestart: () => {
        this.#kept.clear();
        group.series.forEach(({ store }) => store.clear());
      },
      onColumns: (columns) => this.#take(group, columns),
      onLive: () =>
        void this.#fill(group).then(() => {
          group.live = true;
          this.events.onData();
        }),
      onGap: (from, to) => void this.#bring(group, fetchRange(group.patterns, { from, to }, group.points)),
    });
  }

  #take(group: Group, columns: Columns): void {
    for (const [id, of] of byTag(columns)) {
      const series = group.series.get(id);
      if (series === undefined) continue;
      series.store.add(of);
      series.store.trim(this.clock.now() - group.span);
      const newest = series.store.last();
      if (newest !== null) this.clock.sample(newest.ts);
    }
    this.events.onData();
  }

  /** What holds since before the span: of tags that have been silent their newest sample, of other held ones what stood in them as it began. */
  async #fill(group: Group): Promise<void> {
    const all = [...group.series.values()];
    const silent = all.filter(({ store }) => store.length === 0);
    const names = silent.length > FEW ? group.patterns : silent.map(({ tag }) => tag.path);
    for (const name of names) await this.#bring(group, fetchNewest(name), ({ length }) => length === 0);
    const from = this.clock.now() - group.span;
    const held = all.filter(({ tag, store }) => tag.step && store.length > 0 && store.ts(0) > from).slice(0, MOST_HELD);
    if (held.length > 0) await this.#bring(group, fetchAt(held.map(({ tag }) => tag.path), from), (store) => store.before(from) < 0);
  }

  /** Take what was asked for, where it is still wanted. */
  async #bring(group: Group, fetched: Promise<Columns>, wanted: (store: Store) => boolean = () => true): Promise<void> {
    try {
      for (const [id, columns] of byTag(await fetched)) {
        const store = group.series.get(id)?.store;
        const nothing = columns.ts.length === 1 && columns.quality[0] === 0 && Number.isNaN(columns.value[0]) && (columns.text?.[0] ?? null) === null;
        if (store !== undefined && !nothing && wanted(store)) store.add(columns);
      }
      this.events.onData();
    } catch (error) {
      this.events.onProblem(error);
    }
  }
}

function idOf(span: number, { path }: Tag): string {
  return `${span} ${path}`;
}

export function isWildcard(pattern: string): boolean {
  return /[+#]/.test(pattern);
}

/** What matches a path or wildcard (`+`: a level, `#` at the end: what is there and below). */
export function wildcard(pattern: string): RegExp {
  const levels = pattern.split('/').map((level) => (level === '+' ? '[^/]+' : level === '#' ? '.*' : level.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
  const source = levels.join('/').replace(/\/\.\*$/, '(?:/.*)?');
  return new RegExp(`^${source}$`, 'u');
}

/** By span: which tags, each once, and at how many points. */
export function grouped(requests: readonly Request[]): Map<number, { patterns: string[]; points: number }> {
  const groups = new Map<number, { patterns: string[]; points: number }>();
  for (const { pattern, span, points } of requests) {
    const group = groups.get(span) ?? { patterns: [], points: 0 };
    if (!group.patterns.includes(pattern)) group.patterns.push(pattern);
    group.points = Math.max(group.points, points);
    groups.set(span, group);
  }
  for (const group of groups.values()) group.patterns.sort();
  return groups;
}
