/** The menus of the bar: scales and strips, comparison, export. */
import type { Layout, Scaling } from '../chart/scales';
import type { Pen } from '../pens/pen';
import { DAY, HOUR, type Window } from '../time/spans';
import { openMenu } from '../ui/menu';
import { text } from '../ui/strings';
import { savePicture, saveSamples } from './export';

export interface Scales {
  readonly scaling: Scaling;
  readonly layout: Layout;
}

/** Batches of so many tags are offered. */
const BATCH_TAGS = 4;

export function openScalesMenu(anchor: HTMLElement, state: Scales, then: (chosen: Scales) => void): void {
  const scalings = Object.entries(text.scaling) as [Scaling, string][];
  const layouts = Object.entries(text.layout) as [Layout, string][];
  openMenu(anchor, text.scales, [
    { items: layouts.map(([layout, label]) => ({ label, checked: layout === state.layout, action: () => then({ ...state, layout }) })) },
    { items: scalings.map(([scaling, label]) => ({ label, checked: scaling === state.scaling, action: () => then({ ...state, scaling }) })) },
  ]);
}

/** `then` gets how much earlier the period is, in µs, or the pen whose last batch it is. */
export function openCompareMenu(anchor: HTMLElement, compare: number, pens: readonly Pen[], then: (chosen: number | Pen) => void): void {
  const { none, hour, shift, day, week, batch } = text.compareWith;
  const fixed: [string, number][] = [
    [none, 0],
    [hour, HOUR],
    [shift, 8 * HOUR],
    [day, DAY],
    [week, 7 * DAY],
  ];
  openMenu(anchor, text.compare, [
    { items: fixed.map(([label, offset]) => ({ label, checked: compare === offset, action: () => then(offset) })) },
    {
      items: pens
        .filter((pen) => pen.lane && pen.expression === null)
        .slice(0, BATCH_TAGS)
        .map((pen) => ({ label: batch(pen.path.split('/').slice(-2).join(' ')), action: () => then(pen) })),
    },
  ]);
}

export interface Exported {
  /** whether the server is away */
  readonly away: boolean;
  readonly pens: readonly Pen[];
  readonly window: Window;
  readonly canvas: HTMLCanvasElement | null;
}

export function openExportMenu(anchor: HTMLElement, { away, pens, window, canvas }: Exported, onFailed: (error: unknown) => void): void {
  const save = (format: 'csv' | 'parquet') => (): void => {
    // a link to a server that is away would be a download that fails, without a word of the page
    if (away) onFailed(new TypeError('away'));
    else void saveSamples(pens, window, format).catch(onFailed);
  };
  openMenu(anchor, text.export, [
    {
      items: [
        { label: text.exports.png, action: () => canvas !== null && savePicture(canvas, pens, window) },
        { label: text.exports.csv, action: save('csv') },
        { label: text.exports.parquet, action: save('parquet') },
      ],
    },
  ]);
}
