import { say } from '$lib/say.svelte';

/** Put text where a paste finds it. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say('Copied.');
  } catch {
    say('The browser does not let this page copy; select the text instead.', 'info');
  }
}
