import { describe, expect, test } from 'vitest';
import published from '../../../../docs/reference/impasto.schema.json';
import { axisOf, canVary, length, runs, suggest } from './axes';
import { at, flatten, put, take, unflatten, type Values } from './document';
import { mends } from './mend';
import { all, find, isLeaf, nodes, ofKind, search, type Node } from './nodes';
import { section, type Json, type Schema, type Shape, type Table } from './shapes';
import { expected, read, shown } from './words';

const root = section(published as unknown as Schema);
const form = (document: Table, effective: Values = {}) => nodes(root, document, undefined, effective);
const field = (document: Table, key: string) => {
  const found = find(form(document), key);
  if (!found) throw new Error(`no ${key}`);
  return found;
};

/** A value that a shape allows, other than the usual one where there is any other. */
function example(shape: Shape, usual: Json | undefined): Json {
  switch (shape.is) {
    case 'flag':
      return usual !== true;
    case 'choice':
      return shape.values.find((each) => each !== usual) ?? shape.values[0]!;
    case 'number': {
      const low = shape.least ?? shape.above ?? -10;
      const high = Math.min(shape.most ?? shape.below ?? 100, low + 100);
      return shape.whole ? Math.ceil((low + high) / 2) : Number(((low + high) / 2).toPrecision(3));
    }
    case 'text':
      return ['a text', 'A-201', 'cpu', '0_1', 'linear', '.tag', 'down.0', 'lora'].find((each) => 'value' in read(shape, each)) ?? '';
    case 'pair':
      return shape.items.map((each) => example(each, undefined));
    case 'listing':
      return [example(shape.item, undefined)];
    case 'either':
      return example(shape.options[0]!, usual);
    case 'table':
    case 'kinds':
      return {};
    case 'free':
      return { some: 1 };
  }
}

describe('the schema as a form', () => {
  test('every setting has a shape that a box can show', () => {
    const leaves = [...all(form({}))].filter(isLeaf);
    expect(leaves.length).toBeGreaterThan(140);
    for (const each of leaves) expect(each.help, each.key).not.toBe('');
    expect(leaves.filter((each) => each.shape.is === 'free').map((each) => each.key)).toEqual(['track.options', 'sweep.axes']);
  });

  test('what is typed into a box comes back as it was, for every setting of every kind', () => {
    let tried = 0;
    const visit = (list: Node[], document: Table) => {
      for (const each of list) {
        if (each.shape.is === 'kinds') {
          for (const kind of each.kinds) {
            const chosen = put(document, each.key, ofKind(each.shape, undefined, kind));
            visit(find(form(chosen), each.key)!.inside, chosen);
          }
        } else if (each.shape.is === 'table') {
          const opened = each.nullable ? put(document, each.key, {}) : document;
          visit(find(form(opened), each.key)!.inside, opened);
        } else if (each.shape.is === 'listing' && each.shape.item.is === 'table') {
          const added = put(document, `${each.key}.0`, {});
          visit(find(form(added), each.key)!.inside[0]!.inside, added);
        } else {
          const value = example(each.shape, each.usual);
          const back = read(each.shape, shown(each.shape, value));
          expect(back, `${each.key}: ${shown(each.shape, value)}`).toEqual({ value });
          const said = put(document, each.key, value);
          expect(unflatten(flatten(root, said)), each.key).toEqual(said);
          expect(at(take(said, each.key, () => true), each.key)).toBeUndefined();
          tried++;
        }
      }
    };
    visit(form({}), {});
    expect(tried).toBeGreaterThan(300);
  });

  test('a table that is there takes the defaults of its own settings', () => {
    expect(field({}, 'adapter.rank').usual).toBe(4);
    expect(field({ adapter: { kind: 'lokr' } }, 'adapter.factor').changed).toBe(false);
    expect(field({ adapter: { kind: 'lokr' } }, 'adapter').kind).toBe('lokr');
    expect(find(form({ adapter: { kind: 'ia3' } }), 'adapter.rank')).toBeUndefined();
  });

  test('what the server says an unset value comes to is shown', () => {
    const found = find(form({ train: { seed: 3 } }, { 'train.epochs': 10 }), 'train.epochs')!;
    expect(found.usual).toBe(10);
    expect(found.changed).toBe(false);
  });

  test('changed means other than usual, not merely written down', () => {
    expect(field({ adapter: { rank: 4 } }, 'adapter.rank').changed).toBe(false);
    expect(field({ adapter: { rank: 8 } }, 'adapter.rank').changed).toBe(true);
    expect(field({ adapter: { rank: 8 } }, 'adapter').changed).toBe(true);
  });

  test('another kind keeps what both know', () => {
    const shape = field({}, 'optim.optimizer').shape as Extract<Shape, { is: 'kinds' }>;
    const said = { kind: 'adamw', weight_decay: 0.1, beta1: 0.8 };
    expect(ofKind(shape, said, 'lion')).toMatchObject({ kind: 'lion', weight_decay: 0.1 });
    expect(ofKind(shape, said, 'sgd')).toEqual({ kind: 'sgd', weight_decay: 0.1 });
  });

  test('the search finds by name first, then by help', () => {
    expect(search(form({}), 'learning rate')[0]!.key).toBe('optim.learning_rate');
    expect(search(form({}), 'min-snr').map((each) => each.key)).toContain('objective.weighting');
    expect(search(form({}), 'xyzzy')).toEqual([]);
  });
});

describe('a document', () => {
  test('tables that are left empty go, places in lists stay, and so do tables whose being there says something', () => {
    expect(take({ train: { steps: 5 } }, 'train.steps')).toEqual({});
    expect(take({ data: { sets: [{ path: 'a' }] } }, 'data.sets.0.path')).toEqual({ data: { sets: [{}] } });
    expect(take({ data: { sets: [{ path: 'a' }, { path: 'b' }] } }, 'data.sets.0')).toEqual({ data: { sets: [{ path: 'b' }] } });
    expect(take({ optim: { ema: { decay: 0.9 } } }, 'optim.ema.decay', (key) => key === 'optim.ema')).toEqual({ optim: { ema: {} } });
  });

  test('axes of a sweep are one value, dots and all', () => {
    const document = { sweep: { axes: { 'optim.learning_rate': [1e-4, 2e-4] } } };
    expect(flatten(root, document)).toEqual({ 'sweep.axes': { 'optim.learning_rate': [1e-4, 2e-4] } });
    expect(unflatten(flatten(root, document))).toEqual(document);
  });
});

describe('text in a box', () => {
  const number = (more: object): Shape => ({ is: 'number', whole: false, ...more });

  test('numbers with limits say what they should be', () => {
    expect(read(number({ above: 0, most: 1 }), '1e-4')).toEqual({ value: 1e-4 });
    expect(read(number({ above: 0, most: 1 }), '2')).toEqual({ why: 'That should be a number > 0 and ≤ 1.' });
    for (const text of ['', '1.2.3', 'NaN', 'Infinity', '0x10', '1e999']) expect(read(number({}), text), text).toHaveProperty('why');
    expect(read({ is: 'number', whole: true }, '1.5')).toHaveProperty('why');
    expect(read({ is: 'number', whole: true }, '10 000')).toEqual({ value: 10_000 });
  });

  test('steps or a share of them', () => {
    const warmup = field({}, 'optim.schedule.warmup').shape;
    expect(read(warmup, '100')).toEqual({ value: 100 });
    expect(read(warmup, '5 %')).toEqual({ value: 0.05 });
    expect(shown(warmup, 0.05)).toBe('5 %');
    expect(read(warmup, '150 %')).toHaveProperty('why');
  });

  test('a side or two', () => {
    const resolution = field({}, 'data.resolution').shape;
    for (const text of ['1024x768', '1024 × 768', '1024, 768', '[1024, 768]']) expect(read(resolution, text), text).toEqual({ value: [1024, 768] });
    expect(read(resolution, '1024')).toEqual({ value: 1024 });
    expect(shown(resolution, [1024, 768])).toBe('1024 × 768');
    expect(expected(resolution)).toContain('two values');
  });
});

describe('a sweep', () => {
  test('an axis starts with values around what is set, within the limits', () => {
    expect(suggest(field({ optim: { learning_rate: 2e-4 } }, 'optim.learning_rate'))).toEqual([1e-4, 2e-4, 4e-4]);
    expect(suggest(field({}, 'adapter.rank'))).toEqual([2, 4, 8]);
    expect(suggest(field({}, 'objective.zero_terminal_snr'))).toEqual([false, true]);
    expect(suggest(field({}, 'adapter'))).toHaveLength(3);
    expect(axisOf(field({}, 'adapter'))).toBe('adapter.kind');
    expect(canVary(field({}, 'output.folder'))).toBe(false);
  });

  test('the runs are the product of the axes and the seeds', () => {
    expect(length('5e-5..5e-4:log:4')).toBe(4);
    expect(runs({ axes: { a: [1, 2], b: '1..2:lin:3' }, seeds: 2 })).toBe(12);
    expect(runs({ axes: { a: '1..2:log' } })).toBeNull();
    expect(runs(undefined)).toBe(1);
  });
});

describe('words that mend', () => {
  const known = (key: string) => !!find(form({}), key);
  const problem = (where: string, fix: string) => ({ code: '', what: '', where, fix });

  test('a setting named in a fix can be set by a button, if it is one', () => {
    const captions = 'write captions, or set data.captions.text, or data.captions.missing = "empty" or "folder"';
    expect(mends(problem('/pictures', captions), known).map(({ key, value }) => [key, value])).toEqual([
      ['data.captions.missing', 'empty'],
      ['data.captions.missing', 'folder'],
    ]);
    expect(mends(problem('optim.learning_rate', 'learning_rate = 0.005 or less'), known)).toMatchObject([{ key: 'optim.learning_rate', value: 0.005 }]);
    expect(mends(problem('', 'no_such.setting = 3'), known)).toEqual([]);
  });
});
