import { getContext, setContext } from 'svelte';
import type { Draft } from './draft.svelte';
import type { Node } from './nodes';

/** What the parts of a form share. */
export interface Form {
  draft: Draft;
  /** Values worth offering for a setting. */
  offers: (node: Node) => { value: string; label: string }[];
  /** Let a folder be chosen for a setting. */
  browse?: (node: Node) => void;
}

const KEY = Symbol('form');

export const provide = (form: Form) => setContext(KEY, form);
export const form = () => getContext<Form>(KEY);
