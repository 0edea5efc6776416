import { written } from '$lib/forms/draft.svelte';
import { trained, trainedWith, type Trained } from './api';

const KEY = 'impasto-reader';
/** In place of a base: the settings of the run that is being written. */
export const WRITTEN = 'written';

/** The base as whose pictures and tokens a folder is looked at. */
class Reader {
  base = $state(localStorage.getItem(KEY) ?? WRITTEN);

  /** A picture as it would be trained. */
  async read(id: string, pic: string, signal: AbortSignal): Promise<Trained> {
    const base = this.base;
    if (base !== WRITTEN) return trained(id, pic, base, signal);
    const toml = written();
    // Settings that do not check yet say nothing; the built-in base then does.
    return toml ? trainedWith(id, pic, toml, signal).catch(() => trained(id, pic, 'pocket', signal)) : trained(id, pic, 'pocket', signal);
  }

  choose(base: string): void {
    this.base = base;
    localStorage.setItem(KEY, base);
  }
}

export const reader = new Reader();
