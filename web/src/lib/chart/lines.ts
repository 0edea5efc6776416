import type { Line, Series } from '$lib/api';

/** What the horizontal axis counts. */
export type Axis = 'step' | 'epoch' | 'pictures' | 'time';

export interface Curve {
  label: string;
  x: number[];
  y: (number | null)[];
  /** A token of the look: `series-1`. */
  colour: string;
  faint?: boolean;
  dash?: boolean;
  /** Few values, each shown as a dot. */
  dots?: boolean;
}

export interface Zoom {
  min: number;
  max: number;
}

/** Places of points on the axis; null where it cannot be told. */
export function places(line: { x: number[]; t: number[] }, axis: Axis, whole: Series): number[] | null {
  switch (axis) {
    case 'step': return line.x;
    case 'epoch': return whole.epoch_steps ? line.x.map((step) => step / whole.epoch_steps!) : null;
    case 'pictures': return whole.batch ? line.x.map((step) => step * whole.batch!) : null;
    case 'time': {
      const begin = start(whole);
      return line.t.map((time) => time - begin);
    }
  }
}

/** When the first point was told. */
function start(whole: Series): number {
  return Math.min(...Object.values(whole.series).map((line) => line.t[0] ?? Infinity), ...whole.markers.map((marker) => marker.time));
}

/** A running mean that forgets: `weight` 0 leaves the line as it is, 0.99 is nearly flat. Gaps stay gaps. */
export function smooth(y: (number | null)[], weight: number): (number | null)[] {
  if (!weight) return y;
  let sum = 0;
  let mass = 0;
  return y.map((value) => {
    if (value === null) return null;
    sum = sum * weight + value * (1 - weight);
    mass = mass * weight + (1 - weight);
    return sum / mass;
  });
}

const PALETTE = 8;
export const tint = (i: number) => `series-${(i % PALETTE) + 1}`;

/** The lines of a group, as `rate.unet`, `rate.text`, with what stands after the dot. */
export function family(series: Record<string, Line>, group: string): [string, Line][] {
  return Object.entries(series)
    .filter(([name]) => name.startsWith(`${group}.`))
    .map(([name, line]): [string, Line] => [name.slice(group.length + 1), line])
    .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }));
}

export function axisText(axis: Axis): (value: number) => string {
  if (axis === 'time') return clockText;
  if (axis === 'epoch') return (value) => (Number.isInteger(value) ? String(value) : value.toFixed(2));
  return (value) => (value >= 10_000 ? `${+(value / 1000).toFixed(1)}k` : String(Math.round(value)));
}

function clockText(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
  return `${Math.floor(whole / 3600)}:${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} h`;
}

export function valueText(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size === 0) return '0';
  return size < 0.001 || size >= 100_000 ? value.toExponential(2) : String(+value.toPrecision(4));
}
