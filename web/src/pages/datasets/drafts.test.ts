import { beforeEach, expect, test } from 'vitest';

const store = new Map<string, string>();
Object.assign(globalThis, {
  localStorage: {
    getItem: (key: string) => store.get(key) ?? null,
    setItem: (key: string, value: string) => store.set(key, value),
    removeItem: (key: string) => store.delete(key),
  },
});
const { keep, kept, write } = await import('./drafts');
const draft = { path: '/here/anna', version: 3, at: 5, captions: [['1.png', 'a hat']] as [string, string][] };

beforeEach(() => store.clear());

test('what is kept of a folder is found again, of this folder only', () => {
  keep('anna', draft);
  write();
  expect(kept('anna', '/here/anna')).toEqual(draft);
  expect(kept('anna', '/elsewhere/anna')).toBeNull();
  expect(kept('bob', '/here/anna')).toBeNull();
});

test('what was saved or dropped is forgotten', () => {
  keep('anna', draft);
  write();
  keep('anna', { ...draft, captions: [] });
  write();
  expect(store.size).toBe(0);
});

test('what another program wrote there is passed over', () => {
  store.set('impasto.captions.anna', '{');
  expect(kept('anna', '/here/anna')).toBeNull();
});
