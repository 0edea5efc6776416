/** Captions as lists of tags. */

export const tagsOf = (caption: string | null): string[] => (caption ?? '').split(',').map((each) => each.trim()).filter(Boolean);
export const captionOf = (tags: string[]): string => tags.join(', ');

export function without(caption: string | null, at: number): string {
  return captionOf(tagsOf(caption).filter((_, i) => i !== at));
}

/** The caption with a tag at another place. */
export function moved(caption: string | null, from: number, to: number): string {
  const tags = tagsOf(caption);
  const [tag] = tags.splice(from, 1);
  if (tag === undefined) return captionOf(tags);
  tags.splice(Math.max(0, Math.min(to, tags.length)), 0, tag);
  return captionOf(tags);
}

/** The caption with tags behind; those it has already are not repeated. */
export function withTags(caption: string | null, more: string): string {
  const tags = tagsOf(caption);
  const known = new Set(tags.map((each) => each.toLowerCase()));
  return captionOf([...tags, ...tagsOf(more).filter((each) => !known.has(each.toLowerCase()))]);
}
