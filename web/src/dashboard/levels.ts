/** Tells, for screen readers, when a tile goes into a warning or an alarm and out of it, and how many alarms are on in a list. */
import type { Frame } from './board';
import { strings } from './strings';

type Level = keyof typeof strings.levels;

interface Seen {
  readonly level: Level;
  readonly active: number;
}

export class LevelWatch {
  #seen = new WeakMap<Frame['view'], Seen>();

  /** What has changed since the last time, in words; what a tile begins with is no news. */
  passed(frames: readonly Frame[]): string[] {
    return frames.flatMap(({ element, heading, view }) => {
      const reading = element.querySelector<HTMLElement>('.reading');
      const known = reading !== null && !reading.hidden && (reading.textContent ?? '') !== '';
      const listed = element.querySelector('.alarms') !== null;
      if (!known && !listed) return [];
      const given = reading?.dataset['level'];
      const level: Level = given === 'alarm' || given === 'warning' ? given : 'none';
      const active = element.querySelectorAll('.alarms .active').length;
      const before = this.#seen.get(view);
      this.#seen.set(view, { level, active });
      if (before === undefined) return [];
      const title = heading.textContent ?? '';
      const value = [...(reading?.querySelectorAll('.reading-line > :not([hidden])') ?? [])].map((part) => part.textContent).join(' ');
      return [...(before.level === level ? [] : [strings.levels[level](title, value)]), ...(before.active === active ? [] : [strings.activeAlarms(title, active)])];
    });
  }
}
