import type { Detail } from '$lib/api';
import { pictureOf } from '$lib/runs';

/** Pictures to compare: what made them from top to bottom, what was asked for from left to right. */
export interface Sheet {
  rows: { id: string; label: string; note?: string }[];
  columns: { id: string; label: string }[];
  /** The picture's path in the API; undefined where there is none. */
  at: (row: number, column: number, w: number) => string | undefined;
}

/** The newest previews of runs, prompt by prompt. With `together` at the newest step that all of them have. */
export function ofRuns(details: Detail[], together: boolean): Sheet {
  const steps = details.map((detail) => new Set(detail.previews.map((shot) => shot.step)));
  const shared = [...(steps[0] ?? [])].filter((step) => steps.every((each) => each.has(step)));
  const common = shared.length && together ? Math.max(...shared) : null;
  const step = (i: number) => common ?? Math.max(0, ...(steps[i] ?? []));
  const names = details.map((detail, i) => new Map(detail.previews.filter((shot) => shot.step === step(i)).map((shot) => [shot.prompt, shot.picture])));
  const prompts = [...new Set(names.flatMap((each) => [...each.keys()]))].sort((a, b) => a - b);
  return {
    rows: details.map((detail, i) => ({ id: detail.id, label: detail.name, note: `step ${step(i)}` })),
    columns: prompts.map((prompt) => ({
      id: String(prompt),
      label: details.map((detail) => detail.prompts[prompt]?.text).find((text) => text) ?? `prompt ${prompt + 1}`,
    })),
    at: (row, column, w) => {
      const name = names[row]?.get(prompts[column]!);
      return name ? pictureOf(details[row]!.id, name, w) : undefined;
    },
  };
}

/** A pair to vote on, in an order that tells nothing. */
export interface Pair {
  left: number;
  right: number;
  column: number;
}

/** Each pair of rows on each column where both have a picture, shuffled. */
export function pairs(sheet: Sheet, dice: () => number = Math.random): Pair[] {
  const found: Pair[] = [];
  for (let column = 0; column < sheet.columns.length; column++)
    for (let a = 0; a < sheet.rows.length; a++)
      for (let b = a + 1; b < sheet.rows.length; b++)
        if (sheet.at(a, column, 64) && sheet.at(b, column, 64)) found.push(dice() < 0.5 ? { left: a, right: b, column } : { left: b, right: a, column });
  for (let i = found.length - 1; i > 0; i--) {
    const j = Math.floor(dice() * (i + 1));
    [found[i], found[j]] = [found[j]!, found[i]!];
  }
  return found;
}

export interface Vote {
  left: string;
  right: string;
  better: 'left' | 'right' | 'neither';
}
