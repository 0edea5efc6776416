/** What each setting may hold, read from the JSON schema: the form has no list of fields of its own. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Table = { [key: string]: Json };

export type Shape =
  | { is: 'flag' }
  | { is: 'number'; whole: boolean; above?: number; least?: number; below?: number; most?: number }
  | { is: 'text'; path: boolean; pattern?: string; shortest: number; longest?: number }
  | { is: 'choice'; values: (string | number)[] }
  | { is: 'pair'; items: Shape[] }
  | { is: 'listing'; item: Shape; shortest: number }
  | { is: 'table'; section: Section }
  | { is: 'kinds'; sections: Map<string, Section> }
  | { is: 'either'; options: Shape[] }
  | { is: 'free' };

export interface Setting {
  name: string;
  shape: Shape;
  /** May stay without a value. */
  nullable: boolean;
  /** `undefined` where it must be given. */
  usual: Json | undefined;
  help: string;
}

export interface Section {
  name: string;
  help: string;
  settings: Setting[];
}

/** As much of JSON schema as pydantic writes for settings. */
export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string;
  const?: Json;
  enum?: (string | number)[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  discriminator?: { mapping: Record<string, string>; propertyName: string };
  items?: Schema;
  prefixItems?: Schema[];
  properties?: Record<string, Schema>;
  additionalProperties?: boolean | Schema;
  required?: string[];
  default?: Json;
  description?: string;
  title?: string;
  format?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

/** The section a whole schema describes. */
export function section(root: Schema): Section {
  const known = new Map<string, Section>();

  function named(ref: string): Section {
    const name = ref.replace('#/$defs/', '');
    const made = known.get(name);
    if (made) return made;
    const schema = root.$defs?.[name];
    if (!schema) throw new Error(`the schema has no ${ref}`);
    const found: Section = { name, help: oneLine(schema.description), settings: [] };
    known.set(name, found);
    found.settings = settings(schema);
    return found;
  }

  function settings(schema: Schema): Setting[] {
    return Object.entries(schema.properties ?? {}).map(([name, each]) => setting(name, each));
  }

  function setting(name: string, schema: Schema): Setting {
    const options = schema.anyOf ?? [schema];
    const nullable = options.some((each) => each.type === 'null');
    const shapes = options.filter((each) => each.type !== 'null').map(shape);
    return {
      name,
      shape: shapes.length === 1 ? shapes[0]! : { is: 'either', options: shapes },
      nullable,
      usual: schema.default,
      help: oneLine(schema.description) || (schema.$ref ? named(schema.$ref).help : ''),
    };
  }

  function shape(schema: Schema): Shape {
    if (schema.$ref) return of(named(schema.$ref), root.$defs?.[schema.$ref.replace('#/$defs/', '')]);
    if (schema.discriminator) {
      const kinds = Object.entries(schema.discriminator.mapping);
      return { is: 'kinds', sections: new Map(kinds.map(([kind, ref]) => [kind, named(ref)])) };
    }
    if (schema.anyOf ?? schema.oneOf) return { is: 'either', options: (schema.anyOf ?? schema.oneOf)!.map(shape) };
    if (schema.const !== undefined) return { is: 'choice', values: [schema.const as string] };
    if (schema.enum) return { is: 'choice', values: schema.enum };
    switch (schema.type) {
      case 'boolean':
        return { is: 'flag' };
      case 'integer':
      case 'number':
        return {
          is: 'number',
          whole: schema.type === 'integer',
          ...limit('above', schema.exclusiveMinimum),
          ...limit('least', schema.minimum),
          ...limit('below', schema.exclusiveMaximum),
          ...limit('most', schema.maximum),
        };
      case 'string':
        return {
          is: 'text',
          path: schema.format === 'path',
          shortest: schema.minLength ?? 0,
          ...(schema.pattern === undefined ? {} : { pattern: schema.pattern }),
          ...(schema.maxLength === undefined ? {} : { longest: schema.maxLength }),
        };
      case 'array':
        if (schema.prefixItems) return { is: 'pair', items: schema.prefixItems.map(shape) };
        return { is: 'listing', item: schema.items ? shape(schema.items) : { is: 'free' }, shortest: schema.minItems ?? 0 };
      default:
        return { is: 'free' };
    }
  }

  function of(found: Section, schema: Schema | undefined): Shape {
    return schema?.properties ? { is: 'table', section: found } : shape({ ...schema });
  }

  return { name: root.title ?? '', help: oneLine(root.description), settings: settings(root) };
}

function limit<Name extends string>(name: Name, value: number | undefined): { [key in Name]?: number } {
  return (value === undefined ? {} : { [name]: value }) as { [key in Name]?: number };
}

function oneLine(text: string | undefined): string {
  return (text ?? '').replace(/\s*\n\s*/g, ' ').trim();
}

/** Whether a shape is a list of tables, each with settings of its own. */
export function tables(shape: Shape): shape is { is: 'listing'; item: { is: 'table'; section: Section }; shortest: number } {
  return shape.is === 'listing' && shape.item.is === 'table';
}
