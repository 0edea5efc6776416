import { part, patch, post, type Asking, type Done, type Made, type Marked, type Summary } from '$lib/api';
import { fail, say } from '$lib/say.svelte';
import { live } from '$lib/live.svelte';
import { go } from '$lib/router.svelte';

export const runPath = (id: string, tab = '') => `/runs/${part(id)}${tab ? `?tab=${tab}` : ''}`;
export const pictureOf = (id: string, name: string, w = 256) => `/runs/${part(id)}/pictures/${part(name)}?w=${w}`;

/** How an adapter is called: `lora r16`. */
export const adapter = (run: Summary) => [run.kind, run.rank ? `r${run.rank}` : ''].filter(Boolean).join(' ');

/** How long it has trained, or did. */
export const lasted = (run: Summary, now = Date.now() / 1000) => (run.started ? (run.ended ?? now) - run.started : null);

export async function ask(run: Summary, kind: Asking): Promise<void> {
  try {
    say((await post<Done>(`/runs/${part(run.id)}/requests`, { kind })).text, 'info');
  } catch (error) {
    fail(error);
  }
}

export async function mark(run: Summary, marks: Partial<Marked>): Promise<void> {
  try {
    const marked = await patch<Marked>(`/runs/${part(run.id)}/marks`, marks);
    live.put({ ...(live.byId.get(run.id) ?? run), ...marked });
  } catch (error) {
    fail(error);
  }
}

export async function quickstart(): Promise<void> {
  try {
    const made = await post<Made>('/quickstart');
    go(runPath(made.id));
  } catch (error) {
    fail(error);
  }
}
