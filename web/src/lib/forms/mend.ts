/** What a problem's words say would mend it, where they say it plainly: `data.captions.missing = "empty"`. */

import type { Problem } from '$lib/api';
import type { Json } from './shapes';

export interface Mend {
  key: string;
  value: Json;
  label: string;
}

const SETTING = /([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*) = ((?:"[^"]*"|true|false|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?: or (?="))?(?:"[^"]*")?)/g;

export function mends(problem: Problem, known: (key: string) => boolean): Mend[] {
  const found: Mend[] = [];
  for (const [, name, values] of problem.fix.matchAll(SETTING)) {
    const beside = problem.where.includes('.') ? problem.where.replace(/[^.]+$/, name!) : name!;
    const key = [name!, beside].find(known);
    if (!key) continue;
    for (const text of values!.split(' or ')) found.push({ key, value: JSON.parse(text) as Json, label: `${name!.split('.').pop()} = ${text}` });
  }
  return found;
}
