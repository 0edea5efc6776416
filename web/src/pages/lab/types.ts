import type { Schemas } from '$lib/api';

export type Sweep = Schemas['SweepRow'];
export type Report = Schemas['SweepView'];
export type Effect = Schemas['SweepEffect'];
export type Standing = Schemas['StandingView'];
export type Comparison = Schemas['Comparison'];
export type Drawn = Schemas['ComparisonView'];

export const shown = (value: unknown) => (value === null || value === undefined ? 'none' : typeof value === 'string' ? value : JSON.stringify(value));
