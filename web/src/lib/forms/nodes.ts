/** The form of a document: for each setting where it stands, what it is, what it comes to and whether that was changed. */

import { isTable, same, sectionOf, type Values } from './document';
import { tables, type Json, type Section, type Setting, type Shape, type Table } from './shapes';

export interface Node {
  key: string;
  name: string;
  label: string;
  help: string;
  shape: Shape;
  nullable: boolean;
  required: boolean;
  /** What the file says; `undefined` where it says nothing. */
  said: Json | undefined;
  /** What it is where the file says nothing. */
  usual: Json | undefined;
  changed: boolean;
  /** The kinds to choose from, and the chosen one. */
  kinds: string[];
  kind: string;
  usualKind: string;
  /** Settings inside, or the tables of a list. */
  inside: Node[];
}

/** The nodes of a section. `effective` has what the server says that unset values come to. */
export function nodes(section: Section, said: Json | undefined, usual: Json | undefined, effective: Values, above = ''): Node[] {
  return section.settings
    .filter((each) => !(each.shape.is === 'choice' && each.shape.values.length === 1))
    .map((each) => {
      const own = isTable(said) ? said[each.name] : undefined;
      // A table that is there takes the defaults of its own settings; one that is not, those of the place it stands at.
      const base = isTable(said) || !isTable(usual) ? each.usual : usual[each.name];
      return node(each, own, base, effective, above ? `${above}.${each.name}` : each.name);
    });
}

function node(setting: Setting, said: Json | undefined, base: Json | undefined, effective: Values, key: string): Node {
  const { shape } = setting;
  const usual = said === undefined && key in effective ? effective[key] : base;
  const made: Node = {
    key,
    name: setting.name,
    label: label(setting.name),
    help: setting.help,
    shape,
    nullable: setting.nullable,
    required: setting.usual === undefined,
    said,
    usual,
    changed: said !== undefined && !same(said, base),
    kinds: [],
    kind: '',
    usualKind: '',
    inside: [],
  };
  if (tables(shape)) {
    const items = Array.isArray(said) ? said : Array.isArray(base) ? base : [];
    made.inside = items.map((each, i) => item(shape.item.section, each, effective, `${key}.${i}`, i));
    return made;
  }
  const value = said ?? base;
  const section = sectionOf(shape, said, base);
  if (section && (isTable(value) || !setting.nullable)) {
    made.inside = nodes(section, said, base, effective, key);
    made.changed = made.inside.some((each) => each.changed) || (setting.nullable && base === null && isTable(said));
  }
  if (shape.is === 'kinds') {
    made.kinds = [...shape.sections.keys()];
    made.kind = kindOf(value) ?? kindOf(base) ?? made.kinds[0]!;
    made.usualKind = kindOf(base) ?? made.kinds[0]!;
    made.changed = made.changed || made.kind !== made.usualKind;
  }
  return made;
}

function item(section: Section, said: Json, effective: Values, key: string, place: number): Node {
  const inside = nodes(section, said, undefined, effective, key);
  return {
    key,
    name: String(place),
    label: `${label(section.name)} ${place + 1}`,
    help: section.help,
    shape: { is: 'table', section },
    nullable: false,
    required: false,
    said,
    usual: undefined,
    changed: true,
    kinds: [],
    kind: '',
    usualKind: '',
    inside,
  };
}

const kindOf = (value: Json | undefined) => (isTable(value) && typeof value.kind === 'string' ? value.kind : undefined);

/** Whether a node is a box to fill in, not a group of them. */
export const isLeaf = (each: Node) => each.inside.length === 0 && each.kinds.length === 0 && !isGroup(each.shape);

export const isGroup = (shape: Shape): boolean => shape.is === 'table' || shape.is === 'kinds' || tables(shape);

/** Every node, groups before what is inside. */
export function* all(list: Node[]): Generator<Node> {
  for (const each of list) {
    yield each;
    yield* all(each.inside);
  }
}

export function find(list: Node[], key: string): Node | undefined {
  for (const each of list) {
    if (each.key === key) return each;
    if (key.startsWith(`${each.key}.`)) {
      const found = find(each.inside, key);
      if (found) return found;
    }
  }
  return undefined;
}

/** The nodes a search finds, best first. All words must be in the name, the help or the values. */
export function search(list: Node[], text: string): Node[] {
  const words = text.toLowerCase().split(/[\s._-]+/).filter(Boolean);
  if (!words.length) return [];
  const found: { each: Node; rank: number }[] = [];
  for (const each of all(list)) {
    const name = each.key.toLowerCase().replace(/[._]/g, ' ');
    const last = each.name.replace(/_/g, ' ');
    const whole = `${name} ${each.help.toLowerCase()} ${choices(each)}`;
    if (!words.every((word) => whole.includes(word))) continue;
    const rank = words.every((word) => last.includes(word)) ? (last === words.join(' ') ? 0 : 1) : words.every((word) => name.includes(word)) ? 2 : 3;
    found.push({ each, rank: rank + each.key.split('.').length / 100 });
  }
  return found.sort((a, b) => a.rank - b.rank).map(({ each }) => each);
}

function choices(each: Node): string {
  if (each.kinds.length) return each.kinds.join(' ');
  return each.shape.is === 'choice' ? each.shape.values.join(' ').toLowerCase() : '';
}

/** The number of changed boxes below. */
export function changes(list: Node[]): number {
  let found = 0;
  for (const each of all(list)) if (each.changed && isLeaf(each)) found++;
  return found;
}

/** A table of another kind, with what was said and what that kind knows too. */
export function ofKind(shape: Extract<Shape, { is: 'kinds' }>, said: Json | undefined, kind: string): Table {
  const known = new Set(shape.sections.get(kind)?.settings.map((each) => each.name));
  const kept = isTable(said) ? Object.entries(said).filter(([name]) => name !== 'kind' && known.has(name)) : [];
  return { kind, ...Object.fromEntries(kept) };
}

const SHORT: Record<string, string> = { unet: 'U-Net', vae: 'VAE', t5: 'T5', ema: 'EMA', snr: 'SNR', lora: 'LoRA', adamw: 'AdamW' };

/** A setting's name as a label. */
export function label(name: string): string {
  const words = name.replace(/([a-z])([A-Z])/g, '$1 $2').split(/[_\s]/).map((word) => SHORT[word] ?? word.toLowerCase());
  const text = words.join(' ').replace(/^clip (l|g|skip)\b/, (all, which: string) => `CLIP ${which === 'skip' ? which : which.toUpperCase()}${all.slice(6 + which.length)}`);
  return text.charAt(0).toUpperCase() + text.slice(1);
}
