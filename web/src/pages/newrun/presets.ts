import type { Preset } from '$lib/forms/api';
import type { Draft } from '$lib/forms/draft.svelte';
import { known } from '$lib/forms/known.svelte';

const KEPT = ['name', 'data.sets.0.path', 'model.path'];

/** Start from a preset, with the pictures, the base and the name that were chosen already. Where no base was, one of the
 * preset's family on this machine is taken. */
export async function start(draft: Draft, preset: Preset, base?: string): Promise<void> {
  const kept = KEPT.map((key) => [key, draft.node(key)?.said ?? null] as const).filter(([, said]) => said !== null);
  await draft.load(preset.toml ?? '', preset.reasons ?? {});
  const own = base ?? known.bases.find((each) => familyOf(each.family) === preset.family)?.path;
  draft.lay({ ...(own ? { 'model.path': own } : {}), ...Object.fromEntries(kept) });
}

/** A base's family as presets call it. */
export function familyOf(family: string | null | undefined): string {
  const plain = (family ?? '').toLowerCase().replace(/[^a-z0-9]/g, '');
  if (plain.includes('xl')) return 'sdxl';
  if (plain.includes('flux')) return 'flux';
  return /^(sd1|stablediffusion1|sd15)/.test(plain) ? 'sd15' : plain;
}
