/**
 * Key figures, kept up to date. The query layer reckons durations and totals; pieces of a period add up to the whole. So most of a period is asked for seldom, up to shortly before
 * now, and what follows often: it costs the same however long the period is.
 */
import { get } from '../data/api';
import type { Clock } from '../data/clock';
import { SECOND, MINUTE } from '../time/spans';
import { spanUs, type Equipment, type Shifts } from './document';
import { type Answers, figures, type Figures, newestBucket, NOTHING, type Row } from './kpi';

const OFTEN_MS = 5000;
/** Samples may come late: what is younger is asked for again each time. */
const SETTLED = 30 * SECOND;

/** How long the larger part stands: short periods move, long ones are dear. */
function seldom(span: number): number {
  return Math.min(MINUTE, Math.max(OFTEN_MS * 1000, span / 240));
}

/** What is known of a period, to be kept. */
export interface KeptPeriod {
  readonly text: string;
  readonly whole: Answers;
  readonly tail: Answers;
}

class Period {
  whole: Answers = NOTHING;
  tail: Answers = NOTHING;
  /** what `whole` ends with, and when it was asked for */
  until = 0;
  asked = -Infinity;
  known = false;

  constructor(
    readonly text: string,
    readonly equipment: readonly Equipment[],
  ) {}
}

export class Kpis {
  #periods: Period[] = [];
  #shifts: Shifts = {};
  #timer: ReturnType<typeof setInterval>;
  #busy = false;
  #abort = new AbortController();
  problem: unknown = null;

  constructor(
    private readonly clock: Clock,
    private readonly onData: () => void,
  ) {
    this.#timer = setInterval(() => void this.refresh(), OFTEN_MS);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#abort.abort();
  }

  /** Which equipment is shown over which periods. */
  set(wanted: readonly { equipment: Equipment; period: string }[], shifts: Shifts | undefined): void {
    this.#shifts = shifts ?? {};
    const texts = [...new Set(wanted.map(({ period }) => period))];
    this.#periods = texts.map((text) => new Period(text, [...new Set(wanted.filter(({ period }) => period === text).map(({ equipment }) => equipment))]));
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#busy = false;
    void this.refresh();
  }

  keep(): KeptPeriod[] {
    return this.#periods.filter(({ known }) => known).map(({ text, whole, tail }) => ({ text, whole, tail }));
  }

  /** What was known once, until the server answers again. */
  restore(kept: readonly KeptPeriod[]): void {
    for (const period of this.#periods) {
      const found = kept.find(({ text }) => text === period.text);
      if (found !== undefined && !period.known) Object.assign(period, { whole: found.whole, tail: found.tail, known: true });
    }
  }

  /** Null: not known yet. */
  figures(equipment: Equipment, period: string): Figures | null {
    const found = this.#periods.find(({ text }) => text === period);
    return found?.known ? figures(equipment, [found.whole, found.tail]) : null;
  }

  async refresh(): Promise<void> {
    if (this.#busy || document.visibilityState !== 'visible' || this.#periods.length === 0) return;
    const { signal } = this.#abort;
    this.#busy = true;
    try {
      for (const period of this.#periods) await this.#refresh(period, signal);
      if (!signal.aborted) this.problem = null;
    } catch (error) {
      if (!signal.aborted) this.problem = error;
    }
    if (signal.aborted) return;
    this.#busy = false;
    this.onData();
  }

  async #refresh(period: Period, signal: AbortSignal): Promise<void> {
    const now = this.clock.now();
    const shift = period.text === 'shift';
    const span = shift ? spanUs(this.#shifts.interval, '8h') : spanUs(period.text, '8h');
    if (now - period.asked >= seldom(span)) {
      const until = Math.floor(now - SETTLED);
      // the shift at hand is the newest bucket of a span in which it must begin, also where the clock is changed
      const start = Math.floor(until - span - (shift ? 2 * 60 * MINUTE : 0));
      const buckets: Record<string, string> = shift ? { interval: this.#shifts.interval ?? '8h', origin: this.#shifts.origin ?? '06:00', tz: this.#shifts.tz ?? 'UTC' } : {};
      period.whole = await ask(period.equipment, start, until, buckets, signal);
      period.until = until;
      period.asked = now;
    }
    period.tail = await ask(period.equipment, period.until, Math.ceil(now), {}, signal);
    period.known = true;
  }
}

async function ask(equipment: readonly Equipment[], start: number, end: number, buckets: Record<string, string>, signal: AbortSignal): Promise<Answers> {
  const rows = async (mode: string, tags: readonly string[]): Promise<Row[]> => {
    if (tags.length === 0) return [];
    const query = new URLSearchParams([...new Set(tags)].map((tag) => ['tag', tag]));
    for (const [name, value] of Object.entries({ mode, start: String(start), end: String(end), format: 'json', ...buckets })) query.set(name, value);
    const response = await get(`v1/range?${query.toString()}`, signal);
    return newestBucket(((await response.json()) as { samples: Row[] }).samples);
  };
  const [durations, totals, averages] = await Promise.all([
    rows('duration', equipment.map(({ state }) => state)),
    rows('total', equipment.flatMap(({ total, good }) => [total, good])),
    rows('twa', equipment.flatMap(({ ideal_cycle }) => (typeof ideal_cycle === 'string' ? [ideal_cycle] : []))),
  ]);
  return { durations, totals, averages };
}
