import { pending } from './pending.svelte';
import { token } from './token';

/** What a person can mend: what is wrong, where, and how to put it right. */
export interface Problem {
  code: string;
  what: string;
  where: string;
  fix: string;
}

/** An answer that is no success. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly problems: Problem[],
  ) {
    super(problems.map((each) => each.what).join('; '));
  }
}

export interface Options {
  signal?: AbortSignal;
  query?: Record<string, string | number | boolean | undefined | null>;
}

export const get = <T>(path: string, options?: Options) => send<T>('GET', path, undefined, options);
export const post = <T>(path: string, body?: unknown, options?: Options) => send<T>('POST', path, body ?? {}, options);
export const put = <T>(path: string, body?: unknown, options?: Options) => send<T>('PUT', path, body ?? {}, options);
export const patch = <T>(path: string, body?: unknown, options?: Options) => send<T>('PATCH', path, body ?? {}, options);
export const del = <T>(path: string, options?: Options) => send<T>('DELETE', path, undefined, options);

/** Send a file as it is. */
export const putBytes = (path: string, file: Blob, options?: Options) => send<unknown>('PUT', path, file, options);

/** The bytes behind a path, for pictures and files. */
export async function blob(path: string, options: Options = {}): Promise<Blob> {
  return (await ask('GET', path, undefined, options)).blob();
}

async function send<T>(method: string, path: string, body: unknown, options: Options = {}): Promise<T> {
  const answer = await ask(method, path, body, options);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

async function ask(method: string, path: string, body: unknown, { signal, query }: Options): Promise<Response> {
  const headers: Record<string, string> = { 'X-Impasto-Token': token() };
  const raw = body instanceof Blob;
  if (body !== undefined) headers['Content-Type'] = raw ? 'application/octet-stream' : 'application/json';
  let answer: Response;
  try {
    const request = fetch(address(path, query), {
      method,
      headers,
      body: body === undefined ? undefined : raw ? body : JSON.stringify(body),
      signal,
      cache: method === 'GET' ? 'default' : 'no-store',
    });
    answer = await pending.during(request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, [
      {
        code: 'no answer',
        what: 'the server does not answer',
        where: location.host,
        fix: 'is `impasto ui` still running? Runs go on without it.',
      },
    ]);
  }
  if (!answer.ok) throw new Refused(answer.status, await problems(answer));
  return answer;
}

export function address(path: string, query: Options['query'] = {}): string {
  const asked = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') asked.set(key, String(value));
  }
  const text = asked.toString();
  return `/api${path}${text ? `${path.includes('?') ? '&' : '?'}${text}` : ''}`;
}

async function problems(answer: Response): Promise<Problem[]> {
  const said = (await answer.json().catch(() => null)) as { problems?: Problem[]; detail?: unknown } | null;
  if (said?.problems?.length) return said.problems;
  const what = typeof said?.detail === 'string' ? said.detail : `the server answered ${answer.status} ${answer.statusText}`;
  return [{ code: `HTTP ${answer.status}`, what, where: new URL(answer.url).pathname, fix: '' }];
}

/** Any error as problems to show. An aborted request is none. */
export function asProblems(error: unknown): Problem[] {
  if (error instanceof Refused) return error.problems;
  if (error instanceof DOMException && error.name === 'AbortError') return [];
  return [{ code: 'page', what: String(error), where: 'this page', fix: 'reload the page; if it comes again, please report it.' }];
}

/** An id as one part of a path. */
export const part = (id: string | number) => encodeURIComponent(id);
