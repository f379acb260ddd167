/** The list of a dashboard's equipment, and the form of one: what OEE is reckoned from. */
import type { Tag } from '../data/protocol';
import { el, setText } from '../ui/dom';
import { button, form, panel } from './dialogs';
import type { Dashboard, Equipment } from './document';
import { faultsOfEquipment, IDEAL_UNITS, idealCycle, idealShown, type IdealUnit, statesOf, tilesOf, withEquipment, withoutEquipment } from './equipment';
import { lines, select, tagInput, tagList } from './inputs';
import { strings } from './strings';

export interface EquipmentEvents {
  readonly dashboard: () => Dashboard;
  readonly tags: () => ReadonlyMap<string, Tag>;
  /** take a changed document in; what the server finds wrong with it, or null */
  readonly apply: (next: Dashboard, prefix: string) => Promise<readonly string[] | null>;
}

const NEW: Equipment = { state: '', running: [], total: '', good: '', ideal_cycle: NaN };

export function openEquipment(events: EquipmentEvents): void {
  const words = strings.equipment;
  const list = el('ul', { class: 'equipment-list' });
  const show = (): void => {
    const entries = Object.entries(events.dashboard().equipment ?? {});
    const rows = entries.map(([name, equipment]) => {
      const edit = button(words.edit, () => openOne(events, name, equipment, show), { class: 'plain', 'aria-label': words.editOf(name) });
      return el('li', {}, el('b', {}, equipment.title ?? name), el('span', { class: 'equipment-path' }, equipment.state), edit);
    });
    list.replaceChildren(...(rows.length > 0 ? rows : [el('li', { class: 'hint' }, words.none)]));
  };
  show();
  panel(words.heading, el('div', {}, el('p', { class: 'hint' }, words.about), list), [button(words.add, () => openOne(events, null, NEW, show), { class: 'primary' })]);
}

function openOne(events: EquipmentEvents, before: string | null, equipment: Equipment, then: () => void): void {
  const words = strings.equipment;
  const tags = events.tags();
  const name = el('input', { type: 'text', value: before ?? '', autocomplete: 'off', spellcheck: 'false' });
  const title = el('input', { type: 'text', value: equipment.title ?? '', autocomplete: 'off' });
  const [state, total, good] = [equipment.state, equipment.total, equipment.good].map((path) => tagInput(path, tags)) as [TagInput, TagInput, TagInput];
  const shown = idealShown(equipment.ideal_cycle);
  const ideal = el('input', { type: 'text', value: shown.text, list: 'tag-paths', autocomplete: 'off', spellcheck: 'false', 'aria-label': words.ideal });
  const unit = select(IDEAL_UNITS.map((one) => [one, words.units[one]] as const), shown.unit);
  unit.setAttribute('aria-label', words.unit);
  const running = states(words.running, equipment.running);
  const planned = states(words.planned, equipment.planned_stops ?? []);
  const known = (): void => {
    const names = statesOf(tags.get(state.input.value.trim()));
    running.offer(names);
    planned.offer(names);
  };
  state.input.addEventListener('input', known);
  known();
  const remove = button(words.remove, () => {
    const used = tilesOf(events.dashboard(), before ?? '');
    if (used > 0) {
      setText(refused, words.used(used));
      refused.hidden = false;
      return;
    }
    void events.apply(withoutEquipment(events.dashboard(), before ?? ''), '').then(() => {
      dialog.close();
      then();
    });
  }, { class: 'danger' });
  const refused = el('p', { class: 'faults', role: 'alert', hidden: true });
  const label = (text: string, ...fields: HTMLElement[]): HTMLElement => el('label', {}, el('span', {}, text), ...fields);
  const body = el(
    'div',
    { class: 'fields' },
    tagList(tags.keys()),
    el('label', { class: 'half' }, el('span', {}, words.name), name),
    el('label', { class: 'half' }, el('span', {}, words.title), title),
    label(words.state, state.input, state.hint),
    running.element,
    planned.element,
    label(words.total, total.input, total.hint),
    label(words.good, good.input, good.hint),
    el('div', { class: 'pair' }, label(words.ideal, ideal), label(words.unit, unit)),
    refused,
  );
  const dialog = form(
    before === null ? words.add : words.editOf(before),
    body,
    async () => {
      const planning = planned.read();
      const made: Equipment = {
        ...(title.value.trim() === '' ? {} : { title: title.value.trim() }),
        state: state.input.value.trim(),
        running: running.read(),
        ...(planning.length > 0 ? { planned_stops: planning } : {}),
        total: total.input.value.trim(),
        good: good.input.value.trim(),
        ideal_cycle: idealCycle(ideal.value, unit.value as IdealUnit),
      };
      const called = name.value.trim();
      const others = Object.keys(events.dashboard().equipment ?? {}).filter((other) => other !== before);
      const faults = faultsOfEquipment(called, made, others, tags);
      if (faults.length > 0) return faults;
      const wrong = await events.apply(withEquipment(events.dashboard(), before, called, made), `equipment.${called}.`);
      if (wrong === null) then();
      return wrong;
    },
    before === null ? [] : [remove],
  );
}

type TagInput = ReturnType<typeof tagInput>;

/** Some of the states of a tag: boxes to tick where it is known which there are, lines to write otherwise. */
function states(legend: string, chosen: readonly string[]): { element: HTMLElement; offer: (names: string[] | null) => void; read: () => string[] } {
  const text = el('textarea', { rows: 2, spellcheck: 'false', 'aria-label': legend }, chosen.join('\n'));
  const boxes = el('div', { class: 'ticks' });
  let ticks: HTMLInputElement[] = [];
  const read = (): string[] => (boxes.hidden ? lines(text.value) : ticks.filter((tick) => tick.checked).map((tick) => tick.value));
  return {
    element: el('fieldset', {}, el('legend', {}, legend), boxes, text),
    offer(names) {
      const now = ticks.length === 0 && !boxes.hidden ? chosen : read();
      // nothing is lost that the tag does not know
      const all = names === null ? [] : [...new Set([...names, ...now])];
      ticks = all.map((name) => el('input', { type: 'checkbox', value: name, checked: now.includes(name) }));
      boxes.replaceChildren(...ticks.map((tick) => el('label', { class: 'check' }, el('span', {}, tick.value), tick)));
      boxes.hidden = names === null;
      text.hidden = names !== null;
      if (names === null) text.value = now.join('\n');
    },
    read,
  };
}
