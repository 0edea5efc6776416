import { del, get, part, post, put } from '$lib/api';
import type { Dataset } from '$lib/forms/known.svelte';

export interface Pic {
  id: string;
  name: string;
  width?: number | null;
  height?: number | null;
  size?: number | null;
  caption: string;
  tags: string[];
  issues: string[];
}

export interface Issue {
  code: string;
  title: string;
  count: number;
  fix: string;
}

export interface Tag {
  tag: string;
  count: number;
}

export interface Pair {
  a: string;
  b: string;
  count: number;
}

export interface Change {
  version: number;
  at: number;
  what: string;
  changed: number;
  undone: boolean;
}

export interface Page {
  id: string;
  name: string;
  path: string;
  count: number;
  coverage: number;
  total: number;
  pictures: Pic[];
  tags: Tag[];
  issues: Issue[];
  /** The tag that most captions begin with. */
  trigger: string;
  version: number;
  history: Change[];
  /** Pictures that were looked at closely so far. */
  looked: number;
}

export interface Index {
  tags: Tag[];
  pairs: Pair[];
}

export interface Asked {
  offset?: number;
  limit?: number;
  query?: string;
  tag?: string;
  issue?: string;
  sort?: string;
}

export interface Trained {
  width: number;
  height: number;
  crop: { left: number; top: number; width: number; height: number };
  bucket: [number, number];
  scale: number;
  /** Mirrored, half of the time. */
  flip: boolean;
  /** Another cut, or other colours, at each visit. */
  by_dice: boolean;
  /** The picture that is its mask. */
  mask: string | null;
  caption: string;
  /** The caption differs from visit to visit. */
  changes: boolean;
  tokens: { text: string; cut: boolean }[];
  limit: number;
  base: string;
  /** Which text encoder the tokens are those of. */
  reader: string;
}

export interface Bulk {
  find: string;
  replace: string;
  regex: boolean;
  case: boolean;
  add: string[];
  at: 'start' | 'end';
  remove: string[];
  sort: 'no' | 'alphabet' | 'count';
  /** Tags at the start that stay where they are. */
  keep: number;
  /** Take out tags that come twice. */
  unique: boolean;
  pics: string[] | null;
}

export type Changes = Record<string, { before: string; after: string }>;

const of = (id: string) => `/datasets/${part(id)}`;

export const list = () => get<{ datasets: Dataset[] }>('/datasets');
export const add = (path: string) => post<Dataset>('/datasets', { path });
export const forget = (id: string) => del<unknown>(of(id));
export const page = (id: string, asked: Asked, signal?: AbortSignal) => get<Page>(of(id), { query: { ...asked }, signal });
export const thumbnail = (id: string, pic: string, w = 256) => `${of(id)}/pictures/${part(pic)}?w=${w}`;
export const index = (id: string) => get<Index>(`${of(id)}/tags`);
export const trained = (id: string, pic: string, base: string, signal?: AbortSignal) => get<Trained>(`${of(id)}/pictures/${part(pic)}/as-trained`, { query: { base }, signal });
/** The same with settings that are being written: their base, resolution, caption rules and masks. */
export const trainedWith = (id: string, pic: string, toml: string, signal?: AbortSignal) => post<Trained>(`${of(id)}/as-trained`, { pic, toml }, { signal });
export const save = (id: string, changes: Record<string, string>, version: number, what: string) =>
  put<{ saved: number; version: number }>(`${of(id)}/captions`, { changes, version, what });
export const preview = (id: string, bulk: Bulk) => post<{ changes: Changes; count: number }>(`${of(id)}/captions/preview`, bulk);
export const undo = (id: string) => post<{ undone: number; version: number }>(`${of(id)}/undo`);
