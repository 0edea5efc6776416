export { address, asProblems, blob, del, get, part, patch, post, put, putBytes, Refused, type Options, type Problem } from './client';
export { pending } from './pending.svelte';
export { stream, type Stream, type Told } from './stream';
export { keepToken, takeToken, token } from './token';
export type * from './types';
