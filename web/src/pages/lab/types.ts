// What the lab's routes answer.

export interface Sweep {
  id: string;
  name: string;
  axes: string[];
  runs: number;
  done: number;
  best: number | null;
}

export type Value = string | number | boolean | null;

export interface Member {
  run: string | null;
  name: string;
  variant: number;
  point: Record<string, Value>;
  seed: number;
  stage: string;
  step: number;
  loss: number | null;
  why: string;
  file: string;
}

export interface Effect {
  key: string;
  base: Value;
  value: Value;
  mean: number;
  low: number | null;
  high: number | null;
  pairs: number;
  certain: boolean;
}

export interface Report {
  id: string;
  name: string;
  axes: string[];
  rows: Member[];
  effects: Effect[];
  pick: { names: string[]; point: Record<string, Value>; loss: number; reason: string } | null;
  trained: number;
  of: number;
}

export interface Standing {
  row: string;
  strength: number;
  low: number;
  high: number;
  chance: number;
  won: number;
  shown: number;
}

export interface Comparison {
  id: string;
  title: string;
  state: string;
  done: number;
  total: number;
}

export interface Drawn extends Comparison {
  rows: { label: string; strength: number; run: string | null }[];
  columns: { label: string }[];
  cells: (string | null)[][];
  votes: number;
  standings: Standing[];
}

export const shown = (value: unknown) => (value === null || value === undefined ? 'none' : typeof value === 'string' ? value : JSON.stringify(value));
