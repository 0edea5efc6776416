/** What can be done with weights: for each verb its fields, named as on the command line. */

export type Kind = 'adapter' | 'adapters' | 'base' | 'out' | 'whole' | 'share' | 'choice';

export interface Ask {
  name: string;
  label: string;
  kind: Kind;
  help?: string;
  needed?: boolean;
  choices?: string[];
}

export interface Verb {
  id: string;
  label: string;
  help: string;
  asks: Ask[];
}

const rank: Ask = { name: 'rank', label: 'Rank', kind: 'whole' };
const energy: Ask = { name: 'energy', label: 'Energy to keep', kind: 'share', help: 'For each layer the smallest rank that keeps this share, as in 0.95.' };
const base: Ask = { name: 'base', label: 'Base', kind: 'base', help: 'Needed for LoHa and LoKr, and for layers other than those of Stable Diffusion 1.x.' };
const out: Ask = { name: 'out', label: 'New file', kind: 'out', help: 'A name, written beside the file it is made of.' };

export const VERBS: Verb[] = [
  { id: 'inspect', label: 'Inspect', help: 'Tells what a file holds: its kind, ranks, layers, and how it was trained.', asks: [{ name: 'file', label: 'Adapter', kind: 'adapter', needed: true }] },
  { id: 'verify', label: 'Verify', help: 'Tells whether an adapter will load where it is to be used, and all that is wrong with it.', asks: [{ name: 'file', label: 'Adapter', kind: 'adapter', needed: true }] },
  {
    id: 'merge',
    label: 'Merge',
    help: 'Makes one adapter of several. Without a rank, nothing is lost.',
    asks: [{ name: 'files', label: 'Adapters', kind: 'adapters', needed: true }, rank, energy, base, { ...out, needed: true }],
  },
  {
    id: 'extract',
    label: 'Extract',
    help: 'Makes a LoRA of the difference between a fine-tuned base and the one it came from.',
    asks: [
      { name: 'tuned', label: 'Fine-tuned base', kind: 'base', needed: true },
      { name: 'base', label: 'The base it came from', kind: 'base', needed: true },
      rank,
      energy,
      { name: 'precision', label: 'Precision', kind: 'choice', choices: ['fp16', 'bf16', 'fp32'] },
      { ...out, needed: true },
    ],
  },
  {
    id: 'resize',
    label: 'Resize',
    help: 'Writes an adapter again with other ranks, as near to it as those can be.',
    asks: [{ name: 'file', label: 'Adapter', kind: 'adapter', needed: true }, rank, energy, base, { ...out, needed: true }],
  },
  {
    id: 'convert',
    label: 'Convert',
    help: 'Writes a LoRA with other names for its layers. Its numbers stay the same to the bit.',
    asks: [{ name: 'file', label: 'Adapter', kind: 'adapter', needed: true }, { name: 'to', label: 'Names', kind: 'choice', choices: ['kohya', 'diffusers'], needed: true }, base, { ...out, needed: true }],
  },
];
