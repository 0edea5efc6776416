// What the server answers, as the pages read it.

export type State =
  | 'draft' | 'planned' | 'queued' | 'preparing' | 'training' | 'paused' | 'finishing' | 'done' | 'stopped' | 'failed' | 'lost';

export interface Hello {
  version: string;
  machine: string;
  lanes: string[];
  roots: string[];
  pages: boolean;
}

export interface Run {
  id: string;
  name: string;
  state: State;
  reason: string;
  step: number;
  total: number;
  loss: number | null;
  eta: number | null;
  started: number | null;
  ended: number | null;
  family: string;
  kind: string;
  rank: number | null;
  preview: string | null;
  recommended: string | null;
  warnings: string[];
  tags: string[];
  star: boolean;
  note: string;
  parent: string | null;
  sweep: string | null;
}

export interface Checkpoint {
  step: number;
  file: string;
  proven: boolean | null;
  loss: number | null;
  picked: boolean;
  reasons: string[];
}

export interface Shot {
  step: number;
  prompt: number;
  picture: string;
}

export interface Whole extends Run {
  config_toml: string;
  sources: Record<string, string>;
  checkpoints: Checkpoint[];
  previews: Shot[];
  prompts: string[];
  tree: Branch[];
  memory: number | null;
  ledger: Learnt[];
}

export interface Branch {
  id: string;
  name: string;
  parent: string | null;
  at: number | null;
  state: State;
}

export interface Learnt {
  picture: string;
  loss: number;
  visits: number;
}

export interface Series {
  x: number[];
  t: number[];
  y: (number | null)[];
}

export interface Said {
  time: number;
  step: number | null;
  level: 'info' | 'warn' | 'error';
  text: string;
}

export interface Job {
  id: string;
  run: string;
  name: string;
  lane: string;
  state: string;
  reason: string;
}

export interface Lane {
  name: string;
  worker: string | null;
  held: boolean;
  job: string | null;
}

export interface Queue {
  lanes: Lane[];
  jobs: Job[];
}
