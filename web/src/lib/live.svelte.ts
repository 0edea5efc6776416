import { get, Refused, stream, type Hello, type Queue, type Run, type Stream } from '$lib/api';
import { fail } from '$lib/say.svelte';

export type Line = 'opening' | 'up' | 'down' | 'refused';

const PACE = 400;

/** What every page sees of the machine: the runs, the queue, and whether the server is there. */
class Live {
  hello = $state<Hello | null>(null);
  runs = $state.raw<Run[]>([]);
  queue = $state.raw<Queue>({ lanes: [], jobs: [] });
  line = $state<Line>('opening');
  ready = $state(false);

  private events: Stream | null = null;
  private due = new Set<'runs' | 'queue'>();
  private timer = 0;

  async open(): Promise<void> {
    this.events?.close();
    this.line = 'opening';
    try {
      this.hello = await get<Hello>('/hello');
      await Promise.all([this.readRuns(), this.readQueue()]);
      this.ready = true;
    } catch (error) {
      this.line = error instanceof Refused && (error.status === 401 || error.status === 403) ? 'refused' : 'down';
      if (this.line === 'refused') return;
      if (error instanceof Refused && error.status >= 400) fail(error);
      setTimeout(() => void this.open(), 3000);
      return;
    }
    this.events = stream('/stream', {
      told: ({ data }) => this.hear(data),
      line: (up) => {
        const back = up && this.line === 'down';
        this.line = up ? 'up' : 'down';
        if (back) this.look('runs', 'queue');
      },
    });
  }

  /** Read again soon; many calls become one. */
  look(...what: ('runs' | 'queue')[]): void {
    for (const each of what) this.due.add(each);
    if (this.timer) return;
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      const due = [...this.due];
      this.due.clear();
      for (const each of due) void (each === 'runs' ? this.readRuns() : this.readQueue()).catch(() => undefined);
    }, PACE);
  }

  private hear(data: unknown): void {
    const kind = (data as { kind?: string } | null)?.kind;
    if (kind === 'queue') this.look('queue', 'runs');
    else this.look('runs');
  }

  private async readRuns(): Promise<void> {
    this.runs = await get<Run[]>('/runs');
  }

  private async readQueue(): Promise<void> {
    this.queue = await get<Queue>('/queue');
  }
}

export const live = new Live();
