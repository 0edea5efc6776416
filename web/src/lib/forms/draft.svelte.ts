import { untrack } from 'svelte';
import { asProblems, type Problem } from '$lib/api';
import * as api from './api';
import type { Plan } from './api';
import { axisOf, suggest, type Axes, type Axis } from './axes';
import { at, flatten, isTable, put, same, sectionOf, take, unflatten, type Values } from './document';
import { all, find, nodes, ofKind, type Node } from './nodes';
import { section, tables, type Json, type Section, type Table } from './shapes';

const KEY = 'impasto-draft';

/** The text of the run that is being written, as it was last seen whole; empty where there is none. */
export const written = () => sessionStorage.getItem(KEY) ?? '';
/** The run was started: the next one begins anew. */
export const forgetWritten = () => sessionStorage.removeItem(KEY);
const SYNC = 120;
const PLAN = 350;

/** A run in the making: its form and its TOML, in step with each other, and what the plan says of it. */
export class Draft {
  section = $state.raw<Section | null>(null);
  standard = $state.raw<string[]>([]);
  groups = $state.raw<api.Titled[]>([]);
  document = $state.raw<Table>({});
  effective = $state.raw<Values>({});
  toml = $state('');
  problems = $state.raw<Problem[]>([]);
  plan = $state.raw<Plan | null>(null);
  advice = $state.raw<Problem[]>([]);
  /** What the plan has still to look at; null when it is up to date. */
  planning = $state.raw<{ text: string; done?: number; total?: number } | null>(null);
  /** Whether form and text agree. */
  settled = $state(true);
  /** Why a value is what it is, from a preset or an import. */
  reasons = $state.raw<Record<string, string>>({});

  /** Nothing was chosen yet: that is where one begins, not a mistake. */
  blank = $derived(this.problems.length > 0 && this.problems.every((each) => each.code === 'E-CFG-027'));
  nodes = $derived(this.section ? nodes(this.section, this.document, undefined, this.effective) : []);
  axes = $derived.by<Axes>(() => {
    const found = at(this.document, 'sweep.axes');
    return isTable(found) ? (found as Axes) : {};
  });

  past = $state.raw<string[]>([]);

  private syncing = new Later();
  private plans = new Later();

  async open(): Promise<void> {
    const found = await api.described();
    this.section = section(found.schema);
    this.standard = found.layout.standard;
    this.groups = found.layout.groups;
    await this.load(written());
  }

  /** Take a whole file. What was there before can be brought back. */
  async load(toml: string, reasons: Record<string, string> = {}): Promise<void> {
    if (this.toml.trim() && this.toml !== toml) this.past = [...this.past.slice(-20), this.toml];
    this.reasons = reasons;
    this.toml = toml;
    this.settled = false;
    await this.syncing.now((signal) => this.safely(signal, () => this.reads(signal)));
  }

  /** Before the last whole file was taken. */
  async back(): Promise<void> {
    const toml = this.past.at(-1);
    if (toml === undefined) return;
    const past = this.past.slice(0, -1);
    await this.load(toml);
    this.past = past;
  }

  node(key: string): Node | undefined {
    return find(this.nodes, key);
  }

  /** The setting that a problem is about: its place ends with a dotted name, perhaps behind a file and a line. */
  about(problem: Problem): Node | undefined {
    return this.node(problem.where.split(/[\s:,]+/).pop() ?? '');
  }

  /** Values by their dotted names, laid over what is there; null takes one out. */
  lay(values: Values): void {
    let document = this.document;
    for (const [key, value] of Object.entries(values)) {
      document = value === null ? take(document, key, (each) => this.stays(each)) : put(document, key, value);
    }
    this.change(document);
  }

  /** Set a value; the usual one is taken out of the file instead. */
  set(node: Node, value: Json | undefined): void {
    const usual = node.said === undefined ? node.usual : this.usually(node);
    if (value === undefined || same(value, usual)) this.reset(node);
    else this.change(put(this.document, node.key, value));
  }

  reset(node: Node): void {
    this.change(take(this.document, node.key, (key) => key !== node.key && this.stays(key)));
  }

  choose(node: Node, kind: string): void {
    if (node.shape.is !== 'kinds') return;
    this.change(put(this.document, node.key, ofKind(node.shape, node.said, kind)));
  }

  /** A table that may be there or not. */
  include(node: Node, on: boolean): void {
    if (on) this.change(put(this.document, node.key, {}));
    else this.reset(node);
  }

  add(node: Node): void {
    if (tables(node.shape)) this.change(put(this.document, `${node.key}.${node.inside.length}`, {}));
  }

  remove(node: Node): void {
    this.change(take(this.document, node.key, (key) => this.stays(key)));
  }

  vary(node: Node): void {
    this.axis(axisOf(node), suggest(node));
  }

  /** Let a setting take several values; null: only its own again. */
  axis(key: string, axis: Axis | null): void {
    const { [key]: _, ...others } = this.axes;
    const axes: Axes = axis === null ? others : { ...this.axes, [key]: axis };
    if (Object.keys(axes).length) this.change(put(this.document, 'sweep.axes', axes as Json));
    else this.change(take(this.document, 'sweep.axes', (each) => this.stays(each)));
  }

  change(document: Table): void {
    this.document = document;
    this.settled = false;
    void this.syncing.soon(SYNC, (signal) => this.safely(signal, () => this.writes(signal)));
  }

  type(toml: string): void {
    this.toml = toml;
    this.settled = false;
    void this.syncing.soon(SYNC * 2, (signal) => this.safely(signal, () => this.reads(signal)));
  }

  /** Once form and text agree. */
  async settle(): Promise<void> {
    await this.syncing.done();
  }

  close(): void {
    this.syncing.stop();
    this.plans.stop();
  }

  private usually(node: Node): Json | undefined {
    const without = take(this.document, node.key, (key) => key !== node.key && this.stays(key));
    return find(nodes(this.section!, without, undefined, {}), node.key)?.usual;
  }

  /** Tables that say something by being there: those that may be left out. */
  private stays(key: string): boolean {
    return untrack(() => {
      const node = find(this.nodes, key);
      return !!node?.nullable && !!sectionOf(node.shape, node.said);
    });
  }

  /** What the server refuses as a whole is told where other problems are. */
  private async safely(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (signal.aborted) throw error;
      this.problems = asProblems(error);
      this.settled = true;
    }
  }

  private async writes(signal: AbortSignal): Promise<void> {
    const found = await api.writeToml(flatten(this.section!, this.document), this.toml, signal);
    this.toml = found.toml;
    this.took(found);
  }

  private async reads(signal: AbortSignal): Promise<void> {
    const found = await api.readToml(this.toml, signal);
    const unreadable = found.problems.length > 0 && Object.keys(found.values).length === 0 && this.toml.trim() !== '';
    if (!unreadable) this.document = unflatten(found.values);
    this.took(found);
  }

  private took(found: api.ReadBack): void {
    this.effective = found.effective;
    this.problems = found.problems;
    this.settled = true;
    sessionStorage.setItem(KEY, this.toml);
    void this.plans.soon(PLAN, (signal) => this.planned(signal));
  }

  private async planned(signal: AbortSignal): Promise<void> {
    if (this.problems.length) {
      this.planning = null;
      return;
    }
    this.planning = { text: 'Looking…' };
    for (;;) {
      const found = await api.planOf(this.toml, signal).catch((error: unknown) => {
        if (signal.aborted) throw error;
        return { plan: null, advice: [], problems: asProblems(error) } as api.Planned;
      });
      if (found.plan !== null || found.problems.length || found.job === undefined || found.job === null) {
        this.plan = found.plan;
        this.advice = found.advice;
        this.problems = found.problems;
        this.planning = null;
        return;
      }
      this.planning = { text: found.text ?? 'Looking at the pictures…', done: found.done, total: found.total };
      await pause(700, signal);
    }
  }
}

/** The keys of a document's changed boxes. */
export const changedKeys = (list: Node[]) => [...all(list)].filter((each) => each.changed && each.inside.length === 0).map((each) => each.key);

/** Work that waits a moment, and of which only the last asked for counts. */
class Later {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private going: AbortController | undefined;
  private last: Promise<void> = Promise.resolve();
  private go: (() => void) | undefined;

  soon(wait: number, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.stop();
    const going = (this.going = new AbortController());
    this.last = new Promise<void>((resolve) => {
      this.go = () => {
        clearTimeout(this.timer);
        this.go = undefined;
        work(going.signal)
          .catch((error: unknown) => {
            if (!going.signal.aborted) console.error(error);
          })
          .finally(resolve);
      };
      going.signal.addEventListener('abort', () => resolve());
      this.timer = setTimeout(() => this.go?.(), wait);
    });
    return this.last;
  }

  now(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const last = this.soon(0, work);
    this.go?.();
    return last;
  }

  /** Until nothing waits any more; what waits goes at once. */
  async done(): Promise<void> {
    let seen: Promise<void> | undefined;
    while (seen !== this.last) {
      seen = this.last;
      this.go?.();
      await seen;
    }
  }

  stop(): void {
    clearTimeout(this.timer);
    this.going?.abort();
    this.go = undefined;
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('stopped', 'AbortError'));
    });
  });
}
