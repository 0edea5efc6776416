/** Numbers, times and sizes as people read them. */

export function loss(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 10_000) ? value.toExponential(2) : value.toPrecision(4);
}

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : value.toLocaleString('en');
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** A length of time: `42 s`, `5 min`, `1 h 20 min`. */
export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function ago(time: number | null | undefined, now = Date.now() / 1000): string {
  if (!time) return '–';
  const seconds = now - time;
  if (seconds < 45) return 'just now';
  if (seconds < 7 * 86400) return `${span(seconds).replace(/ \d+ (min|h)$/, '')} ago`;
  return date(time);
}

export function date(time: number | null | undefined): string {
  return time ? new Date(time * 1000).toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric' }) : '–';
}

export function moment(time: number | null | undefined): string {
  return time ? new Date(time * 1000).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' }) : '–';
}

export function clock(time: number): string {
  return new Date(time * 1000).toLocaleTimeString('en', { hour12: false });
}

export function percent(part: number, whole: number): string {
  return whole > 0 ? `${Math.floor((100 * part) / whole)} %` : '–';
}
