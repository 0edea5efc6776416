/** Sweeps: what varies, over which values, and how many runs that makes. */

import type { Node } from './nodes';
import type { Json } from './shapes';
import { isTable } from './document';

export type Axis = Json[] | string;
export type Axes = Record<string, Axis>;

const RANGE = /^\s*([^.\s]+(?:\.\d+)?(?:e[-+]?\d+)?)\s*\.\.\s*([^:\s]+)\s*:\s*(\w+)\s*(?::\s*(\d+))?\s*$/i;

/** Whether a setting can vary: it has one value, and belongs to one run. */
export function canVary(node: Node): boolean {
  const top = node.key.split('.')[0];
  if (top === 'sweep' || top === 'name' || top === 'output' || top === 'version' || top === 'device') return false;
  return node.kinds.length > 0 || ['flag', 'number', 'choice', 'either', 'text'].includes(node.shape.is);
}

/** The key under which a node varies. */
export const axisOf = (node: Node) => (node.kinds.length ? `${node.key}.kind` : node.key);

/** Values worth a try around what is set. */
export function suggest(node: Node): Json[] {
  if (node.kinds.length) return [node.kind, ...node.kinds.filter((each) => each !== node.kind)].slice(0, 3);
  const { shape } = node;
  const value = node.said ?? node.usual;
  if (shape.is === 'flag') return [false, true];
  if (shape.is === 'choice') return shape.values.slice(0, 4);
  if (typeof value === 'number') return around(node, value);
  return value === null || value === undefined ? [] : [value];
}

function around(node: Node, value: number): Json[] {
  const limits = node.shape.is === 'number' ? [node.shape] : node.shape.is === 'either' ? node.shape.options.filter((each) => each.is === 'number') : [];
  const whole = limits.some((each) => each.whole) && Number.isInteger(value);
  if (value === 0) return limits.some((each) => (each.below ?? each.most ?? 2) <= 1) ? [0, 0.05, 0.1] : [0, 1, 2];
  const tried = [value / 2, value, value * 2].map((each) => (whole ? Math.round(each) : Number(each.toPrecision(3))));
  const fits = (each: number) =>
    !limits.length ||
    limits.some((limit) => each > (limit.above ?? -Infinity) && each >= (limit.least ?? -Infinity) && each < (limit.below ?? Infinity) && each <= (limit.most ?? Infinity));
  return [...new Set(tried)].filter(fits);
}

/** How many values an axis has; null where a range leaves that open. */
export function length(axis: Axis): number | null {
  if (Array.isArray(axis)) return axis.length;
  const range = RANGE.exec(axis);
  return range?.[4] ? Number(range[4]) : null;
}

export const isRange = (text: string) => RANGE.test(text);

/** How many runs a sweep makes; null where that is not known here. */
export function runs(sweep: Json | undefined): number | null {
  if (!isTable(sweep) || !isTable(sweep.axes)) return 1;
  const seeds = typeof sweep.seeds === 'number' ? sweep.seeds : 1;
  const counts = Object.values(sweep.axes).map((each) => length(each as Axis));
  if (typeof sweep.pick === 'number') return sweep.pick * seeds;
  return counts.includes(null) ? null : counts.reduce<number>((all, each) => all * each!, 1) * seeds;
}
