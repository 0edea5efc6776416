import { get, part, post, type Problem, type Schemas } from '$lib/api';

export interface Job {
  id: string;
  what: string;
  state: 'waiting' | 'running' | 'done' | 'failed';
  done: number;
  total: number;
  /** Seconds. */
  left: number | null;
  text: string;
  result: unknown;
  problems: Problem[];
}

export interface Stored {
  id: string;
  what: string;
  path: string;
  size: number;
  files: number;
  note: string;
  removable: boolean;
}

export interface Cleaned {
  /** The first thousand. */
  items: { path: string; size: number }[];
  files: number;
  size: number;
  done: boolean;
}

export interface Check {
  name: string;
  state: 'good' | 'warn' | 'bad';
  what: string;
  fix: string;
}

export const tokens = () => get<Schemas['Tokens']>('/tools/tokens');
export const work = (verb: string, body: Record<string, unknown>) => post<{ job: string }>(`/tools/weights/${verb}`, body);
export const job = (id: string) => get<Job>(`/tools/jobs/${part(id)}`);
export const cancel = (id: string) => post<unknown>(`/tools/jobs/${part(id)}/cancel`);
export const storage = () => get<{ items: Stored[]; total: number; free: number }>('/tools/storage');
export const clean = (ids: string[], go: boolean) => post<Cleaned>('/tools/storage/clean', { ids, go });
export const doctor = () => get<{ checks: Check[] }>('/tools/doctor');
