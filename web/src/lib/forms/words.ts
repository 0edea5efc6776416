/** Values as text that a person types, and back. */

import type { Json, Shape } from './shapes';

export type Read = { value: Json } | { why: string };

/** A value as it stands in its box. */
export function shown(shape: Shape, value: Json | undefined): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return shape.is === 'either' && isShare(shape, value) ? `${trim(value * 100)} %` : number(value);
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) {
    const sides = shape.is === 'pair' || (shape.is === 'either' && shape.options.some((each) => each.is === 'pair'));
    return value.map((each) => shown({ is: 'free' }, each)).join(sides && value.length === 2 ? ' × ' : ', ');
  }
  return JSON.stringify(value);
}

/** The value of a text, or why it is none. */
export function read(shape: Shape, text: string): Read {
  const plain = text.trim();
  switch (shape.is) {
    case 'flag':
      if (/^(on|true|yes|1)$/i.test(plain)) return { value: true };
      return /^(off|false|no|0)$/i.test(plain) ? { value: false } : wrong(shape);
    case 'number':
      return readNumber(shape, plain);
    case 'choice': {
      const found = shape.values.find((each) => String(each) === plain);
      return found === undefined ? wrong(shape) : { value: found };
    }
    case 'text':
      return readText(shape, shape.path ? plain : text);
    case 'pair':
      return readAll(shape, parts(plain), (i) => shape.items[i], shape.items.length);
    case 'listing':
      return readAll(shape, parts(plain), () => shape.item);
    case 'either': {
      const tried = shape.options.map((each) => read(each, shareOf(shape, plain)));
      return tried.find((each) => 'value' in each) ?? wrong(shape);
    }
    default:
      try {
        const value = JSON.parse(plain) as Json;
        return typeof value === 'object' && value !== null ? { value } : wrong(shape);
      } catch {
        return wrong(shape);
      }
  }
}

/** In words, what belongs there. */
export function expected(shape: Shape): string {
  switch (shape.is) {
    case 'flag':
      return 'on or off';
    case 'number': {
      const noun = shape.whole ? 'a whole number' : 'a number';
      const limits = limitsOf(shape);
      return limits ? `${noun} ${limits}` : noun;
    }
    case 'text':
      if (shape.path) return 'a path';
      return shape.longest === undefined ? 'text' : `text of ${shape.shortest ? `${shape.shortest} to` : 'up to'} ${shape.longest} characters`;
    case 'choice':
      return `one of ${shape.values.join(', ')}`;
    case 'pair':
      return shape.items.length === 2 ? `two values, each ${expected(shape.items[0]!)}` : `${shape.items.length} values`;
    case 'listing':
      return `a list, each ${expected(shape.item)}`;
    case 'either':
      return shape.options.map(expected).join(', or ');
    default:
      return 'a table in braces, as {"a name": [1, 2]}';
  }
}

type NumberShape = Extract<Shape, { is: 'number' }>;

function limitsOf(shape: NumberShape): string {
  const far = (value: number | undefined) => value === undefined || Math.abs(value) >= 1e9;
  const low = shape.above !== undefined ? `> ${number(shape.above)}` : shape.least !== undefined ? `≥ ${number(shape.least)}` : '';
  const high = far(shape.below ?? shape.most) ? '' : shape.below !== undefined ? `< ${number(shape.below)}` : `≤ ${number(shape.most!)}`;
  if (shape.least !== undefined && shape.most !== undefined && high) return `from ${number(shape.least)} to ${number(shape.most)}`;
  return [low, high].filter(Boolean).join(' and ');
}

function readNumber(shape: NumberShape, text: string): Read {
  const plain = text.replace(/(\d)[_\s](?=\d)/g, '$1');
  const percent = /^([\d.]+)\s*%$/.exec(plain);
  const value = percent ? trim(Number(percent[1]) / 100) : plain === '' ? NaN : Number(plain);
  const fits =
    Number.isFinite(value) &&
    /^[-+\d.]/.test(plain) &&
    !/^[-+]?0[xob]/i.test(plain) &&
    (!shape.whole || (Number.isSafeInteger(value) && !percent)) &&
    (shape.above === undefined || value > shape.above) &&
    (shape.least === undefined || value >= shape.least) &&
    (shape.below === undefined || value < shape.below) &&
    (shape.most === undefined || value <= shape.most);
  return fits ? { value } : wrong(shape);
}

function readText(shape: Extract<Shape, { is: 'text' }>, text: string): Read {
  const length = [...text].length;
  const fits =
    length >= shape.shortest &&
    (shape.longest === undefined || length <= shape.longest) &&
    (shape.pattern === undefined || matches(shape.pattern, text));
  return fits ? { value: text } : wrong(shape);
}

function readAll(shape: Shape, texts: string[], item: (i: number) => Shape | undefined, length?: number): Read {
  if (length !== undefined && texts.length !== length) return wrong(shape);
  if (shape.is === 'listing' && texts.length < shape.shortest) return wrong(shape);
  const values: Json[] = [];
  for (const [i, text] of texts.entries()) {
    const found = read(item(i)!, text);
    if ('why' in found) return found;
    values.push(found.value);
  }
  return { value: values };
}

function parts(text: string): string[] {
  const inside = text.replace(/^\[([\s\S]*)\]$/, '$1').trim();
  return inside === '' ? [] : inside.split(/\s*[,;×\n]\s*|(?<=\d)\s*x\s*(?=\d)/).filter((each) => each !== '').map(unquoted);
}

const unquoted = (text: string) => text.replace(/^(["'])(.*)\1$/, '$2');

/** Of "steps, or a share of all steps", a percentage is the share. */
function isShare(shape: Extract<Shape, { is: 'either' }>, value: number): boolean {
  return stepsOrShare(shape) && value > 0 && value < 1;
}

function shareOf(shape: Extract<Shape, { is: 'either' }>, text: string): string {
  const percent = stepsOrShare(shape) ? /^([\d.]+)\s*%$/.exec(text) : null;
  return percent ? String(trim(Number(percent[1]) / 100)) : text;
}

export function stepsOrShare(shape: Shape): boolean {
  if (shape.is !== 'either') return false;
  const numbers = shape.options.filter((each) => each.is === 'number');
  return numbers.length === 2 && numbers[0]!.whole && !numbers[1]!.whole && (numbers[1]!.below ?? numbers[1]!.most) === 1;
}

function matches(pattern: string, text: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(text);
  } catch {
    return true;
  }
}

const wrong = (shape: Shape): Read => ({ why: `That should be ${expected(shape)}.` });
const trim = (value: number) => Number(value.toPrecision(12));

function number(value: number): string {
  const size = Math.abs(value);
  return size > 0 && size < 0.001 ? value.toExponential().replace('e-0', 'e-') : String(value);
}
