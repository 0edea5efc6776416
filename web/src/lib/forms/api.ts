/** What the server answers about settings. */

import { del, get, part, post, type Problem } from '$lib/api';
import type { Values } from './document';
import type { Schema } from './shapes';

/** A section of the form as it is called; `prefixes` are the beginnings of the names that belong to it. */
export interface Titled {
  name: string;
  title: string;
  help: string;
  prefixes: string[];
}

export interface Described {
  schema: Schema;
  layout: { standard: string[]; groups: Titled[] };
}

export interface Preset {
  name: string;
  title: string;
  why: string;
  family: string;
  goal: string;
  /** Gigabytes of the card it is made for. */
  memory: number;
  toml?: string;
  reasons?: Record<string, string>;
}

/** A file of settings: what it says, what unset values come to, and what is wrong. */
export interface ReadBack {
  values: Values;
  toml: string;
  effective: Values;
  problems: Problem[];
}

export type Range = { low: number; high: number; basis?: string };

export interface Plan {
  name: string;
  base: string;
  resolution: number | number[];
  pictures: {
    used: number;
    refused: unknown[];
    sets: { path: string; role: string; pictures: number; visits: number }[];
    buckets: { width: number; height: number; pictures: number; batches: number }[];
    upscaled: number;
    cropped: number;
    largest_crop: number;
    copies: unknown[];
  } | null;
  steps: { total: number; epochs: number; per_epoch: number; per_picture: number; warmup: number; saves: number[]; previews: number[]; validations: number[] } | null;
  rates: { part: string; rate: number; scale: number; effective: number }[];
  trained: number | null;
  disk: { adapter_file: number; adapter_files: number; total: number } | null;
  cache: { pictures: number; cached: number; size: number } | null;
  words: { captions: number; different: number; empty: number; limit: number; longest: number; mean: number; cut: unknown[]; tags: [string, number][] } | null;
  memory: Range | null;
  seconds: Range | null;
}

export interface Planned {
  plan: Plan | null;
  advice: Problem[];
  problems: Problem[];
  /** While pictures are still looked at. */
  job?: string | number | null;
  done?: number;
  total?: number;
  text?: string;
}

export interface Imported {
  toml: string;
  kind: string;
  report: { key: string; value: unknown; verdict: string; settings: string[]; note: string }[];
  problems: Problem[];
}

export interface Started {
  run_ids: string[];
  jobs: number[];
  sweep: string | null;
  /** Of a probe: the job that measures. */
  chore: string | null;
}

export interface Recipe {
  name: string;
  toml: string;
  saved: number;
}

export interface Folders {
  path: string;
  parent: string | null;
  folders: { name: string; path: string; pictures: number | null }[];
}

export const described = () => get<Described>('/schema');
export const presets = () => get<{ presets: Preset[] }>('/presets');
export const preset = (name: string) => get<Preset>(`/presets/${part(name)}`);
export const readToml = (toml: string, signal?: AbortSignal) => post<ReadBack>('/configs/read', { toml }, { signal });
export const writeToml = (values: Values, toml: string, signal?: AbortSignal) => post<ReadBack>('/configs/write', { values, toml }, { signal });
export const planOf = (toml: string, signal?: AbortSignal) => post<Planned>('/configs/plan', { toml }, { signal });
export const importFile = (name: string, text: string) => post<Imported>('/configs/import', { name, text });
export const recipes = () => get<{ recipes: Recipe[] }>('/recipes');
export const keep = (name: string, toml: string) => post<Recipe>('/recipes', { name, toml });
export const forget = (name: string) => del<{ recipes: Recipe[] }>(`/recipes/${part(name)}`);
export const start = (toml: string, go: 'now' | 'queue' | 'probe') => post<Started>('/configs/start', { toml, go });
export const folders = (path: string) => get<Folders>('/folders', { query: { path } });
