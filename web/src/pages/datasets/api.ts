import { del, get, part, post, put } from '$lib/api';
import type { Dataset } from '$lib/forms/known.svelte';

export interface Pic {
  id: string;
  name: string;
  width?: number | null;
  height?: number | null;
  size?: number | null;
  caption: string | null;
  tags?: string[];
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
  version: number | string;
  at: number;
  what: string;
  changed: number;
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
  pairs?: Pair[];
  issues: Issue[];
  version: number | string;
  history?: Change[];
  /** While the folder is still looked at. */
  looking?: { done: number; total: number } | null;
}

export interface Asked {
  offset?: number;
  limit?: number;
  query?: string;
  tag?: string;
  issue?: string;
}

export interface Trained {
  width: number;
  height: number;
  crop: { left: number; top: number; width: number; height: number };
  bucket: [number, number];
  scale: number;
  flip?: boolean;
  caption: string;
  tokens: { text: string; cut: boolean }[];
  limit: number;
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
  pics: string[] | null;
}

export type Changes = Record<string, { before: string | null; after: string }>;

const of = (id: string) => `/datasets/${part(id)}`;

export const list = () => get<{ datasets: Dataset[] }>('/datasets');
export const add = (path: string) => post<Dataset>('/datasets', { path });
export const forget = (id: string) => del<unknown>(of(id));
export const page = (id: string, asked: Asked, signal?: AbortSignal) => get<Page>(of(id), { query: { ...asked }, signal });
export const thumbnail = (id: string, pic: string, w = 256) => `${of(id)}/pictures/${part(pic)}?w=${w}`;
export const trained = (id: string, pic: string, signal?: AbortSignal) => get<Trained>(`${of(id)}/pictures/${part(pic)}/as-trained`, { signal });
export const save = (id: string, changes: Record<string, string>, version: number | string, what: string) =>
  put<{ saved: number; version: number | string }>(`${of(id)}/captions`, { changes, version, what });
export const preview = (id: string, bulk: Bulk) => post<{ changes: Changes; count: number }>(`${of(id)}/captions/preview`, bulk);
export const undo = (id: string) => post<{ undone: number; version: number | string }>(`${of(id)}/undo`);
