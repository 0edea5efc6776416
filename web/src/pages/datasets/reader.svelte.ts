const KEY = 'impasto-reader';

/** The base as whose pictures and tokens a folder is looked at. */
class Reader {
  base = $state(localStorage.getItem(KEY) ?? 'pocket');

  choose(base: string): void {
    this.base = base;
    localStorage.setItem(KEY, base);
  }
}

export const reader = new Reader();
