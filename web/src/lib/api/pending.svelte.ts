import { untrack } from 'svelte';

/** How many requests are under way. */
class Pending {
  count = $state(0);

  async during<T>(work: Promise<T>): Promise<T> {
    // An effect that asks must not run again when the count changes.
    untrack(() => this.count++);
    try {
      return await work;
    } finally {
      this.count--;
    }
  }
}

export const pending = new Pending();
