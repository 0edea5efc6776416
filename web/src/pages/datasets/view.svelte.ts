import { SvelteMap, SvelteSet } from 'svelte/reactivity';
import { asProblems, type Problem } from '$lib/api';
import { fail, say } from '$lib/say.svelte';
import * as api from './api';
import * as drafts from './drafts';
import type { Index, Page, Pic } from './api';

export const CHUNK = 200;

/** Captions that were changed and not saved, kept while one looks at other pages. */
const unsaved = new Map<string, SvelteMap<string, string>>();

function editsOf(id: string): SvelteMap<string, string> {
  let found = unsaved.get(id);
  if (!found) unsaved.set(id, (found = new SvelteMap()));
  return found;
}

// Whatever page is open: what is not saved is asked about before the tab goes.
addEventListener('beforeunload', (event) => {
  if ([...unsaved.values()].some((edits) => edits.size)) event.preventDefault();
});

/** A folder of pictures as it is looked through: the pages that came, what is chosen, what was changed. */
export class View {
  head = $state.raw<Page | null>(null);
  index = $state.raw<Index>({ tags: [], pairs: [] });
  problems = $state.raw<Problem[]>([]);
  query = $state('');
  tag = $state('');
  issue = $state('');
  sort = $state('name');
  /** Places of pictures in the present order; those that did not come yet are missing. */
  shown = $state.raw<(Pic | undefined)[]>([]);
  at = $state(0);
  saving = $state(false);
  /** Rises when other pictures are shown: the present one is brought into view. */
  turns = $state(0);
  /** Changes that a page before this one did not save, until one has said what becomes of them. */
  found = $state.raw<drafts.Draft | null>(null);
  readonly edits: SvelteMap<string, string>;
  readonly chosen = new SvelteSet<string>();

  current = $derived(this.shown[this.at]);
  dirty = $derived.by(() => this.edits.size);

  private asked = new Set<number>();
  private going = new AbortController();

  constructor(readonly id: string) {
    this.edits = editsOf(id);
  }

  /** Ask anew, from the first picture on; what is shown stays until it comes. */
  async look(place = 0): Promise<void> {
    this.going.abort();
    this.going = new AbortController();
    const { signal } = this.going;
    this.asked.clear();
    try {
      const head = await this.page(0, signal);
      if (!this.head && !this.edits.size) this.found = drafts.kept(this.id, head.path);
      this.head = head;
      this.problems = [];
      const shown: (Pic | undefined)[] = Array.from({ length: head.total });
      head.pictures.forEach((pic, i) => (shown[i] = pic));
      this.asked.add(0);
      this.shown = shown;
      this.at = Math.min(place, Math.max(0, head.total - 1));
      if (place >= CHUNK) this.need(place, place);
      this.turns++;
    } catch (error) {
      if (!signal.aborted) this.problems = asProblems(error);
    }
  }

  /** Have the browser keep what is changed and not saved. */
  keep(): void {
    const captions = [...new Map([...(this.found?.captions ?? []), ...this.edits])];
    if (!this.head || (this.found && !this.edits.size)) return;
    drafts.keep(this.id, { path: this.head.path, version: this.head.version, at: Date.now() / 1000, captions });
  }

  /** Take up what a page before this one did not save, or forget it. */
  restore(wanted: boolean): void {
    if (wanted) for (const [pic, caption] of this.found?.captions ?? []) this.edits.set(pic, caption);
    this.found = null;
    this.keep();
  }

  /** Read the index of tags anew. */
  async tags(): Promise<void> {
    this.index = await api.index(this.id);
  }

  /** What is known by now of pictures that are still looked at; the grid stays. */
  async again(): Promise<void> {
    const head = await api.page(this.id, { offset: 0, limit: 0, query: this.query, tag: this.tag, issue: this.issue, sort: this.sort });
    this.head = { ...head, pictures: this.head?.pictures ?? [] };
  }

  /** See to it that the pictures at these places come. */
  need(from: number, until: number): void {
    for (let chunk = Math.floor(from / CHUNK); chunk <= Math.floor(Math.min(until, this.shown.length - 1) / CHUNK); chunk++) {
      if (chunk < 0 || this.asked.has(chunk)) continue;
      this.asked.add(chunk);
      const { signal } = this.going;
      this.page(chunk, signal).then(
        (page) => {
          const shown = [...this.shown];
          page.pictures.forEach((pic, i) => (shown[chunk * CHUNK + i] = pic));
          this.shown = shown;
        },
        (error: unknown) => {
          this.asked.delete(chunk);
          if (!signal.aborted) fail(error);
        },
      );
    }
  }

  caption(pic: Pic): string {
    return this.edits.get(pic.id) ?? pic.caption;
  }

  write(pic: Pic, caption: string): void {
    if (caption === (pic.caption)) this.edits.delete(pic.id);
    else this.edits.set(pic.id, caption);
  }

  go(place: number): void {
    this.at = Math.max(0, Math.min(place, this.shown.length - 1));
    this.need(this.at - 2, this.at + 2);
  }

  choose(place: number, how: 'one' | 'more' | 'range'): void {
    const pic = this.shown[place];
    if (how === 'range') {
      const [a, b] = [Math.min(this.at, place), Math.max(this.at, place)];
      for (const each of this.shown.slice(a, b + 1)) if (each) this.chosen.add(each.id);
    } else if (how === 'more' && pic) {
      if (!this.chosen.delete(pic.id)) this.chosen.add(pic.id);
    } else {
      this.chosen.clear();
    }
    this.go(place);
  }

  async save(what = 'edited by hand'): Promise<void> {
    if (!this.edits.size || !this.head || this.saving) return;
    this.saving = true;
    const changes = Object.fromEntries(this.edits);
    try {
      const found = await api.save(this.id, changes, this.head.version, what);
      for (const [pic, caption] of Object.entries(changes)) if (this.edits.get(pic) === caption) this.edits.delete(pic);
      say(`${found.saved} ${found.saved === 1 ? 'caption is' : 'captions are'} saved.`);
      await this.look(this.at);
      void this.tags();
    } catch (error) {
      fail(error);
    } finally {
      this.saving = false;
    }
  }

  async undo(): Promise<void> {
    try {
      const found = await api.undo(this.id);
      say(`The last save is undone: ${found.undone} ${found.undone === 1 ? 'caption' : 'captions'}.`);
      await this.look(this.at);
      void this.tags();
    } catch (error) {
      fail(error);
    }
  }

  /** The ids of all pictures that the filter leaves, those that did not come yet too. */
  async filtered(): Promise<string[]> {
    const most = 1000;
    const found: string[] = [];
    for (let offset = 0; offset < this.shown.length; offset += most) {
      const page = await api.page(this.id, { offset, limit: most, query: this.query, tag: this.tag, issue: this.issue, sort: this.sort });
      found.push(...page.pictures.map((each) => each.id));
    }
    return found;
  }

  private page(chunk: number, signal: AbortSignal): Promise<Page> {
    return api.page(this.id, { offset: chunk * CHUNK, limit: CHUNK, query: this.query, tag: this.tag, issue: this.issue, sort: this.sort }, signal);
  }
}
