/** Overall equipment effectiveness, reckoned from what the query layer says of states and counters: OEE = availability × performance × quality (ISO 22400-2). */
import type { Equipment, Show } from './document';

/** Of one piece of equipment in a period; NaN for what is not known. */
export interface Figures {
  readonly running_s: number;
  /** all known time but planned stops */
  readonly planned_s: number;
  readonly total: number;
  readonly good: number;
  readonly ideal_s: number;
  /** something of the period is not known */
  readonly partial: boolean;
}

/** A row of a range query in JSON. */
export interface Row {
  readonly tag: string;
  readonly ts: string;
  readonly value: number | null;
  readonly quality: number;
  readonly state?: string | null;
}

/** Rows of the modes duration, total and twa over one period. */
export interface Answers {
  readonly durations: readonly Row[];
  readonly totals: readonly Row[];
  readonly averages: readonly Row[];
}

export const NOTHING: Answers = { durations: [], totals: [], averages: [] };

/** The rows of the newest bucket. */
export function newestBucket(rows: readonly Row[]): Row[] {
  const newest = rows.reduce((latest, { ts }) => (ts > latest ? ts : latest), '');
  return rows.filter(({ ts }) => ts === newest);
}

const sum = (rows: readonly Row[]): number => rows.reduce((all, { value }) => (value === null ? all : all + value), 0);

/** The figures of pieces of a period that follow each other. */
export function figures(equipment: Equipment, pieces: readonly Answers[]): Figures {
  const durations = pieces.flatMap((piece) => piece.durations.filter((row) => row.tag === equipment.state && row.state != null));
  const stops = equipment.planned_stops ?? [];
  const counted = (tag: string): number => {
    const rows = pieces.flatMap((piece) => piece.totals.filter((row) => row.tag === tag && row.value !== null));
    return rows.length === 0 ? NaN : sum(rows);
  };
  const ideal = equipment.ideal_cycle;
  // of the first piece, which is nearly all of the period
  const average = typeof ideal === 'string' ? pieces.flatMap((piece) => piece.averages.filter((row) => row.tag === ideal && row.value !== null))[0] : undefined;
  return {
    running_s: durations.length === 0 ? NaN : sum(durations.filter(({ state }) => equipment.running.includes(state!))),
    planned_s: durations.length === 0 ? NaN : sum(durations.filter(({ state }) => !stops.includes(state!))),
    total: counted(equipment.total),
    good: counted(equipment.good),
    ideal_s: typeof ideal === 'number' ? ideal : (average?.value ?? NaN),
    partial: pieces.some((piece) => [...piece.durations, ...piece.totals].some((row) => (row.tag === equipment.state || row.tag === equipment.total || row.tag === equipment.good) && row.quality < 192)),
  };
}

const ratio = (part: number, whole: number): number => (whole > 0 ? part / whole : NaN);

/** A key figure: a ratio, a number of pieces, or seconds. NaN where it is not known, as before the first piece. */
export function keyFigure(show: Show, of: Figures): number {
  switch (show) {
    case 'availability':
      return ratio(of.running_s, of.planned_s);
    case 'performance':
      return ratio(of.total * of.ideal_s, of.running_s);
    case 'quality':
      return ratio(of.good, of.total);
    case 'oee':
      return keyFigure('availability', of) * keyFigure('performance', of) * keyFigure('quality', of);
    case 'total':
      return of.total;
    case 'good':
      return of.good;
    case 'rejects':
      return of.total - of.good;
    case 'running':
      return of.running_s;
  }
}
