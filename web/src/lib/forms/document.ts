/** What a file of settings says: a tree that holds only what is written there, and its dotted values. */

import { tables, type Json, type Section, type Shape, type Table } from './shapes';

export type Values = Record<string, Json>;

export const isTable = (value: Json | undefined): value is Table => typeof value === 'object' && value !== null && !Array.isArray(value);

export function at(document: Json | undefined, key: string): Json | undefined {
  let here: Json | undefined = document;
  for (const name of key.split('.')) {
    if (Array.isArray(here)) here = here[Number(name)];
    else if (isTable(here)) here = here[name];
    else return undefined;
  }
  return here;
}

/** The document with a value at a key; the tables on the way are made. */
export function put(document: Table, key: string, value: Json): Table {
  return written(document, key.split('.'), value) as Table;
}

function written(here: Json | undefined, path: string[], value: Json): Json {
  const [name, ...rest] = path;
  if (name === undefined) return value;
  if (Array.isArray(here) || (here === undefined && /^\d+$/.test(name))) {
    const list = Array.isArray(here) ? [...here] : [];
    list[Number(name)] = written(list[Number(name)], rest, value);
    return list;
  }
  const table = isTable(here) ? here : {};
  return { ...table, [name]: written(table[name], rest, value) };
}

/** The document without what stands at a key. Tables that are left empty go too, but for those where `stays` says that
 * being there means something. A place in a list is closed up. */
export function take(document: Table, key: string, stays: (key: string) => boolean = () => false): Table {
  const path = key.split('.');
  const parent = path.slice(0, -1).join('.');
  const name = path.at(-1)!;
  const table = parent ? at(document, parent) : document;
  if (Array.isArray(table)) return refill(document, parent, table.filter((_, i) => i !== Number(name)), stays);
  if (!isTable(table) || !(name in table)) return document;
  const { [name]: _, ...left } = table;
  if (!parent) return left;
  return refill(document, parent, left, stays);
}

function refill(document: Table, key: string, left: Table | Json[], stays: (key: string) => boolean): Table {
  const empty = Array.isArray(left) ? left.length === 0 : Object.keys(left).length === 0;
  const inList = /\.\d+$/.test(key) && Array.isArray(at(document, key.replace(/\.\d+$/, '')));
  return empty && !inList && !stays(key) ? take(document, key, stays) : put(document, key, left);
}

/** A tree as dotted values: tables are opened, lists of tables by their place, everything else is one value. */
export function flatten(section: Section, document: Table): Values {
  const found: Values = {};
  for (const [name, value] of Object.entries(document)) {
    const setting = section.settings.find((each) => each.name === name);
    spread(found, name, setting?.shape ?? { is: 'free' }, value);
  }
  return found;
}

function spread(found: Values, key: string, shape: Shape, value: Json): void {
  if (tables(shape) && Array.isArray(value) && value.length) {
    value.forEach((each, i) => spread(found, `${key}.${i}`, shape.item, each));
    return;
  }
  if (!isTable(value) || Object.keys(value).length === 0 || shape.is === 'free') {
    found[key] = value;
    return;
  }
  const inner = sectionOf(shape, value);
  for (const [name, each] of Object.entries(value)) {
    const setting = inner?.settings.find((known) => known.name === name);
    spread(found, `${key}.${name}`, setting?.shape ?? { is: 'free' }, each);
  }
}

/** The section that describes a table standing at a shape. */
export function sectionOf(shape: Shape, value: Json | undefined, usual?: Json): Section | undefined {
  switch (shape.is) {
    case 'table':
      return shape.section;
    case 'kinds': {
      const kind = (isTable(value) ? value.kind : undefined) ?? (isTable(usual) ? usual.kind : undefined);
      return shape.sections.get(String(kind ?? [...shape.sections.keys()][0]));
    }
    case 'either':
      return shape.options.map((each) => sectionOf(each, value, usual)).find(Boolean);
    default:
      return undefined;
  }
}

/** The tree of dotted values. */
export function unflatten(values: Values): Table {
  let document: Table = {};
  for (const [key, value] of Object.entries(values)) {
    if (value !== null) document = put(document, key, value);
  }
  return document;
}

export function same(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((each, i) => same(each, b[i]));
  if (isTable(a) && isTable(b)) {
    const names = Object.keys(a);
    return names.length === Object.keys(b).length && names.every((name) => same(a[name], b[name]));
  }
  return false;
}
