import { untrack, type Component } from 'svelte';

/** Where the page is. Addresses live after the `#`, because the server shows one page and reads no other path. */
class Router {
  path = $state('/');
  query = $state(new URLSearchParams());

  constructor() {
    this.read();
    addEventListener('hashchange', () => this.read());
  }

  private read(): void {
    const [path, query] = location.hash.replace(/^#/, '').split('?', 2);
    this.path = path?.startsWith('/') ? path : '/';
    this.query = new URLSearchParams(query ?? '');
  }

  /** Change parts of the query without a new entry in the history. */
  ask(changes: Record<string, string | number | null | undefined>): void {
    const query = new URLSearchParams(untrack(() => this.query));
    for (const [key, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === '') query.delete(key);
      else query.set(key, String(value));
    }
    const text = query.toString();
    history.replaceState(null, '', `#${untrack(() => this.path)}${text ? `?${text}` : ''}`);
    this.query = query;
  }
}

export const router = new Router();

export function go(path: string): void {
  location.hash = path;
}

/** The address of a page, for links. */
export const to = (path: string) => `#${path}`;

/** A page may take the named parts of its address as `params`. */
export type PageOf = Component<any>;

export interface Route {
  pattern: string;
  page: () => Promise<{ default: PageOf }>;
}

/** The route of a path. `:name` takes a part; `:name*` takes the rest, slashes included. */
export function match(routes: Route[], path: string): { route: Route; params: Record<string, string> } | null {
  for (const route of routes) {
    const names: string[] = [];
    const text = route.pattern.replace(/:(\w+)(\*?)/g, (_, name: string, rest: string) => {
      names.push(name);
      return rest ? '(.+)' : '([^/]+)';
    });
    const found = new RegExp(`^${text}$`).exec(path);
    if (found) return { route, params: Object.fromEntries(names.map((name, i) => [name, decodeURIComponent(found[i + 1]!)])) };
  }
  return null;
}
