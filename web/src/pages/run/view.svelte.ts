import { asProblems, get, part, stream, type Detail, type Line, type Log, type Message, type Problem, type Series, type Stream } from '$lib/api';

/** An event of the run, as its journal holds it. */
interface Event {
  kind: string;
  time?: number;
  step?: number;
  [key: string]: unknown;
}

const PACE = 250;
const SOON = 600;
/** So many points are drawn; when live ones double them, they are thinned anew. */
const POINTS = 2000;

/** A run that is looked at: everything the page shows, kept up to date by the run's own events. */
export class View {
  detail = $state.raw<Detail | null>(null);
  series = $state.raw<Series | null>(null);
  /** Rises when points were added to `series`. */
  version = $state(0);
  log = $state.raw<Message[]>([]);
  output = $state('');
  problems = $state.raw<Problem[]>([]);

  private events: Stream | null = null;
  private shown = 0;
  private due = 0;
  private anew = false;
  private readonly path: string;

  constructor(readonly id: string) {
    this.path = `/runs/${part(id)}`;
  }

  async open(): Promise<void> {
    try {
      await Promise.all([this.readDetail(), this.readSeries(), this.readLog()]);
    } catch (error) {
      this.problems = asProblems(error);
      return;
    }
    const known = this.series!.events;
    this.events = stream(`${this.path}/stream`, { told: ({ data }) => this.hear(data as Event), last: String(known - 1) });
  }

  close(): void {
    this.events?.close();
    clearTimeout(this.shown);
    clearTimeout(this.due);
  }

  async readDetail(): Promise<void> {
    this.detail = await get<Detail>(this.path);
  }

  async readSeries(): Promise<void> {
    this.series = await get<Series>(`${this.path}/series`, { query: { points: POINTS } });
    this.version++;
  }

  async readLog(): Promise<void> {
    const last = this.log.at(-1)?.line ?? -1;
    const log = await get<Log>(`${this.path}/log`, { query: { after: last } });
    this.log = last < 0 ? log.messages : [...this.log, ...log.messages];
    this.output = log.output;
  }

  private hear(event: Event | null): void {
    switch (event?.kind) {
      case 'step':
        return this.step(event);
      case 'phase':
      case undefined:
        return;
      case 'started':
      case 'resumed':
        return this.soon(true);
      default:
        return this.soon(event?.kind === 'validated');
    }
  }

  private step(event: Event): void {
    if (!this.series || event.step === undefined) return;
    this.add('loss', event, event.loss);
    this.add('norm', event, event.norm);
    this.add('seconds', event, event.seconds);
    for (const [name, rate] of Object.entries((event.rates as Record<string, number> | undefined) ?? {})) this.add(`rate.${name}`, event, rate);
    this.shown ||= window.setTimeout(() => {
      this.shown = 0;
      this.version++;
      if ((this.series?.series.loss?.x.length ?? 0) > 2 * POINTS) void this.readSeries().catch(() => undefined);
    }, PACE);
  }

  private add(name: string, event: Event, value: unknown): void {
    const line = ((this.series!.series as Record<string, Line>)[name] ??= { x: [], t: [], y: [] });
    if ((line.x.at(-1) ?? -1) >= event.step!) return;
    line.x.push(event.step!);
    line.t.push(event.time ?? Date.now() / 1000);
    line.y.push(typeof value === 'number' ? value : null);
  }

  /** Read again what changed, once for many events. */
  private soon(anew: boolean): void {
    this.anew ||= anew;
    this.due ||= window.setTimeout(() => {
      this.due = 0;
      const series = this.anew;
      this.anew = false;
      void Promise.all([this.readDetail(), this.readLog(), series ? this.readSeries() : null]).catch(() => undefined);
    }, SOON);
  }
}
