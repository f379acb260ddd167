/** The view of each type of tile. */
import { el } from '../../ui/dom';
import type { Tile } from '../document';
import { strings } from '../strings';
import { alarmsTile } from './alarms';
import { gaugeTile } from './gauge';
import { kpiTile } from './kpi';
import { sparklineTile } from './sparkline';
import { statesTile } from './states';
import { textTile } from './text';
import type { Context, View } from './tile';
import { trendTile } from './trend';
import { valueTile } from './value';

export function makeView(tile: Tile, context: Context): View {
  switch (tile.type) {
    case 'value':
      return valueTile(tile, context);
    case 'gauge':
      return gaugeTile(tile, context);
    case 'sparkline':
      return sparklineTile(tile, context);
    case 'trend':
      return trendTile(tile, context);
    case 'states':
      return statesTile(tile, context);
    case 'alarms':
      return alarmsTile(tile, context);
    case 'text':
      return textTile(tile, context);
    case 'kpi':
      return kpiTile(tile, context);
    default: {
      // of a newer version of the server
      const { type } = tile as { type: string };
      return { element: el('div', { class: 'notice' }, strings.unknownTile(type)), title: () => type, wants: () => [], update: () => undefined };
    }
  }
}
