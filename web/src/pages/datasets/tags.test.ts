import { expect, test } from 'vitest';
import { moved, tagsOf, withTags, without } from './tags';

test('tags are what stands between commas', () => {
  expect(tagsOf(' a cat ,, sitting,')).toEqual(['a cat', 'sitting']);
  expect(tagsOf(null)).toEqual([]);
});

test('tags are added once, moved and taken out', () => {
  expect(withTags('a cat, sitting', 'A cat, red, red hat')).toBe('a cat, sitting, red, red hat');
  expect(moved('a, b, c', 2, 0)).toBe('c, a, b');
  expect(moved('a, b, c', 0, 9)).toBe('b, c, a');
  expect(without('a, b, c', 1)).toBe('a, c');
});
