import { token } from './token';
import { address } from './client';

export interface Told {
  id: string;
  event: string;
  data: unknown;
}

export interface Stream {
  close(): void;
}

interface Hooks {
  told: (told: Told) => void;
  /** Whether the line is up; told at each change. */
  line?: (up: boolean) => void;
  /** The server will not tell, however often it is asked: the token is wrong, or the run is gone. */
  refused?: () => void;
  last?: string;
}

const LONGEST_PAUSE = 10_000;

/** Server-sent events by fetch, because EventSource can send no token. Goes on from the last id after a break. */
export function stream(path: string, { told, line, refused, last = '' }: Hooks): Stream {
  const closing = new AbortController();
  let pause = 500;

  async function read(): Promise<void> {
    const headers: Record<string, string> = { 'X-Impasto-Token': token(), Accept: 'text/event-stream' };
    if (last) headers['Last-Event-ID'] = last;
    const answer = await fetch(address(path), { headers, signal: closing.signal, cache: 'no-store' });
    if (!answer.ok || !answer.body) throw new Gone(answer.status);
    line?.(true);
    pause = 500;
    for await (const each of parse(answer.body)) {
      if (each.id) last = each.id;
      told(each);
    }
  }

  async function follow(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        await read();
      } catch (error) {
        if (closing.signal.aborted) return;
        if (error instanceof Gone && error.status >= 400 && error.status < 500) return refused?.();
      }
      if (closing.signal.aborted) return;
      line?.(false);
      await new Promise((done) => setTimeout(done, pause));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  void follow();
  return { close: () => closing.abort() };
}

class Gone extends Error {
  constructor(readonly status: number) {
    super(`the stream answered ${status}`);
  }
}

async function* parse(body: ReadableStream<Uint8Array>): AsyncGenerator<Told> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll('\r\n', '\n').split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const found = event(block);
      if (found) yield found;
    }
  }
}

function event(block: string): Told | null {
  const found: Told = { id: '', event: 'message', data: null };
  const lines: string[] = [];
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    if (colon < 1) continue;
    const value = line.slice(colon + 1).replace(/^ /, '');
    const name = line.slice(0, colon);
    if (name === 'id') found.id = value;
    else if (name === 'event') found.event = value;
    else if (name === 'data') lines.push(value);
  }
  if (!lines.length) return null;
  const text = lines.join('\n');
  try {
    found.data = JSON.parse(text);
  } catch {
    found.data = text;
  }
  return found;
}
