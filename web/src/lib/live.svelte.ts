import { get, Refused, stream, type Hello, type Queue, type Runs, type Stream, type Summary } from '$lib/api';
import { fail } from '$lib/say.svelte';

export type Line = 'opening' | 'up' | 'down' | 'refused';

type Change = { kind: 'run'; run: Summary } | { kind: 'gone'; id: string } | { kind: 'queue'; queue: Queue } | { kind: 'sync' };

/** How often changes are shown at most, in milliseconds. */
const PACE = 250;

export const ACTIVE: ReadonlySet<string> = new Set(['preparing', 'training', 'finishing']);
export const isActive = (run: Summary) => ACTIVE.has(run.state);

/** What every page sees of the machine: the runs, the queue, and whether the server is there. */
class Live {
  hello = $state.raw<Hello | null>(null);
  /** The newest first. */
  runs = $state.raw<Summary[]>([]);
  queue = $state.raw<Queue>({ lanes: [], jobs: [], warning: '' });
  line = $state<Line>('opening');
  /** Whether `runs` and `queue` were read. */
  ready = $state(false);
  /** Folders the server has not read yet. */
  reading = $state(0);
  byId = $derived(new Map(this.runs.map((run) => [run.id, run])));
  active = $derived(this.runs.filter(isActive));

  private events: Stream | null = null;
  private changed = new Map<string, Summary | null>();
  private timer = 0;

  async open(): Promise<void> {
    this.events?.close();
    try {
      this.hello = await get<Hello>('/hello');
      await this.look();
      this.ready = true;
    } catch (error) {
      const refused = error instanceof Refused && (error.status === 401 || error.status === 403);
      this.line = refused ? 'refused' : 'down';
      if (!refused) setTimeout(() => void this.open(), 3000);
      return;
    }
    this.events = stream('/stream', {
      told: ({ data }) => this.hear(data as Change),
      line: (up) => {
        if (up && this.line === 'down') void this.look().catch(fail);
        this.line = up ? 'up' : 'down';
      },
      refused: () => void this.open(),
    });
  }

  /** Read everything anew. */
  async look(): Promise<void> {
    const [runs, queue] = await Promise.all([get<Runs>('/runs'), get<Queue>('/queue')]);
    this.changed.clear();
    this.runs = runs.runs;
    this.reading = runs.reading;
    this.queue = queue;
    if (runs.reading) setTimeout(() => void this.look().catch(() => undefined), 1500);
  }

  /** A run as it is now, before the server tells it. */
  put(run: Summary): void {
    this.changed.set(run.id, run);
    this.timer ||= window.setTimeout(() => this.show(), PACE);
  }

  private hear(change: Change | null): void {
    switch (change?.kind) {
      case 'run':
        return this.put(change.run);
      case 'gone':
        this.changed.set(change.id, null);
        this.timer ||= window.setTimeout(() => this.show(), PACE);
        return;
      case 'queue':
        this.queue = change.queue;
        return;
      case 'sync':
        void this.look().catch(() => undefined);
    }
  }

  private show(): void {
    this.timer = 0;
    const changed = this.changed;
    this.changed = new Map();
    const kept = this.runs.filter((run) => changed.get(run.id) !== null).map((run) => changed.get(run.id) ?? run);
    const known = new Set(this.runs.map((run) => run.id));
    const fresh = [...changed.values()].filter((run): run is Summary => run !== null && !known.has(run.id));
    this.runs = [...fresh, ...kept];
  }
}

export const live = new Live();
