/** Captions that were changed and not saved, which the browser keeps while the page is away: a reload loses none. */
export interface Draft {
  /** The folder: ids are names that another server may give to another one. */
  path: string;
  /** What was saved last when the first of them was changed. */
  version: number;
  at: number;
  captions: [string, string][];
}

const key = (id: string) => `impasto.captions.${id}`;
const LATER = 300;
const waiting = new Map<string, Draft | null>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Keep them, or with null forget them. Written a moment later: one types on. */
export function keep(id: string, draft: Draft | null): void {
  waiting.set(id, draft);
  clearTimeout(timer);
  timer = setTimeout(write, LATER);
}

/** What was kept of a folder by a page that is gone. */
export function kept(id: string, path: string): Draft | null {
  try {
    const found = JSON.parse(localStorage.getItem(key(id)) ?? 'null') as Draft | null;
    return found && found.path === path && Array.isArray(found.captions) && found.captions.length ? found : null;
  } catch {
    return null;
  }
}

export function write(): void {
  for (const [id, draft] of waiting) {
    try {
      if (draft?.captions.length) localStorage.setItem(key(id), JSON.stringify(draft));
      else localStorage.removeItem(key(id));
    } catch {
      // The browser has no room, or keeps nothing: leaving is warned of all the same.
    }
  }
  waiting.clear();
}

if (typeof addEventListener === 'function') addEventListener('pagehide', write);
