import type { Detail } from '$lib/api';

/** Previews as a table: steps from left to right, prompts from top to bottom. */
export interface Table {
  steps: number[];
  prompts: number[];
  /** The picture's name, if one was drawn. */
  at: (step: number, prompt: number) => string | undefined;
  /** What a prompt says. */
  words: (prompt: number) => string;
}

export function table(detail: Detail): Table {
  const names = new Map(detail.previews.map((shot) => [`${shot.step} ${shot.prompt}`, shot.picture]));
  const sorted = (numbers: number[]) => [...new Set(numbers)].sort((a, b) => a - b);
  return {
    steps: sorted(detail.previews.map((shot) => shot.step)),
    prompts: sorted(detail.previews.map((shot) => shot.prompt)),
    at: (step, prompt) => names.get(`${step} ${prompt}`),
    words: (prompt) => detail.prompts[prompt]?.text ?? `prompt ${prompt + 1}`,
  };
}
