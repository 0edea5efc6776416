import type { State, Summary } from '$lib/api';

export type Group = 'all' | 'active' | 'waiting' | 'done' | 'trouble';

export const GROUPS: { id: Group; label: string; states: readonly State[] }[] = [
  { id: 'all', label: 'All', states: [] },
  { id: 'active', label: 'Running', states: ['preparing', 'training', 'finishing', 'paused'] },
  { id: 'waiting', label: 'Waiting', states: ['draft', 'planned', 'queued'] },
  { id: 'done', label: 'Ended', states: ['done', 'stopped'] },
  { id: 'trouble', label: 'Failed or lost', states: ['failed', 'lost'] },
];

export type Column = 'name' | 'state' | 'progress' | 'loss' | 'validation' | 'adapter' | 'base' | 'started' | 'lasted';

export interface Wish {
  text: string;
  group: Group;
  tag: string;
  stars: boolean;
  sweep: string;
  sort: Column;
  down: boolean;
}

/** The runs a person asked for, in the order asked for. Words are looked for in names, notes, tags, bases and kinds. */
export function chosen(runs: Summary[], wish: Wish, now: number): Summary[] {
  const words = wish.text.toLowerCase().split(/\s+/).filter(Boolean);
  const states = GROUPS.find((group) => group.id === wish.group)!.states;
  const found = runs.filter(
    (run) =>
      (!states.length || states.includes(run.state)) &&
      (!wish.stars || run.star) &&
      (!wish.tag || run.tags.includes(wish.tag)) &&
      (!wish.sweep || run.sweep === wish.sweep) &&
      (!words.length || holds(run, words)),
  );
  const sign = wish.down ? -1 : 1;
  return found
    .map((run) => [key(run, wish.sort, now), run] as const)
    .sort(([a], [b]) => compare(a, b, sign))
    .map(([, run]) => run);
}

function holds(run: Summary, words: string[]): boolean {
  const text = [run.name, run.note, run.base, run.kind, run.family, run.sweep ?? '', run.folder, ...run.tags].join(' ').toLowerCase();
  return words.every((word) => text.includes(word));
}

type Key = string | number | null;

function key(run: Summary, sort: Column, now: number): Key {
  switch (sort) {
    case 'name': return run.name;
    case 'state': return run.state;
    case 'progress': return run.total ? run.step / run.total : 0;
    case 'loss': return run.loss;
    case 'validation': return run.validation;
    case 'adapter': return `${run.kind} ${String(run.rank ?? 0).padStart(5, '0')}`;
    case 'base': return run.base;
    case 'started': return run.started;
    case 'lasted': return run.started ? (run.ended ?? now) - run.started : null;
  }
}

/** What is missing stands last, whichever way it is sorted. */
function compare(a: Key, b: Key, sign: number): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  if (typeof a === 'string' && typeof b === 'string') return sign * a.localeCompare(b, 'en', { numeric: true });
  return sign * ((a as number) - (b as number));
}
