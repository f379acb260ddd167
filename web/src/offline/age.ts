/** The age of what is shown, in words that change once a minute at the most. Times are µs. */
import { day, MINUTE, spanText, timeOfDay } from '../time/spans';

/** `25 min`; less than a minute is `< 1 min`. */
export function ageText(age: number): string {
  return age < MINUTE ? '< 1 min' : spanText(Math.floor(age / MINUTE) * MINUTE);
}

/** `10:42`, with the day where that is another one than `now`'s. */
export function instantText(at: number, now: number): string {
  const time = timeOfDay(at).slice(0, 5);
  return day(at) === day(now) ? time : `${day(at)} ${time}`;
}
