import type { Summary } from '$lib/api';

const KEY = 'impasto-notices';
const WORTH: Record<string, string> = { done: 'is done', failed: 'failed', lost: 'is lost' };

/** Notifications of the browser: a run that ends, fails or is lost while the page is open somewhere. */
class Notices {
  on = $state(localStorage.getItem(KEY) === 'on' && typeof Notification !== 'undefined' && Notification.permission === 'granted');
  denied = $state(typeof Notification !== 'undefined' && Notification.permission === 'denied');
  possible = typeof Notification !== 'undefined';
  private states: Map<string, string> | null = null;

  async turn(on: boolean): Promise<void> {
    const allowed = on && (await Notification.requestPermission()) === 'granted';
    this.denied = on && !allowed;
    this.on = allowed;
    localStorage.setItem(KEY, allowed ? 'on' : 'off');
  }

  /** Compare the runs with what they were. */
  see(runs: Summary[]): void {
    const before = this.states;
    this.states = new Map(runs.map((run) => [run.id, run.state]));
    if (!before || !this.on) return;
    for (const run of runs) {
      const word = WORTH[run.state];
      const was = before.get(run.id);
      if (word && was !== undefined && was !== run.state) new Notification(`${run.name} ${word}`, { body: run.reason || undefined, tag: run.id });
    }
  }
}

export const notices = new Notices();
