import { asProblems, type Problem } from '$lib/api';

export interface Word {
  id: number;
  kind: 'good' | 'info' | 'bad';
  text: string;
  problem?: Problem;
}

/** Short words at the rim of the page: what was done, or why it was not. */
class Words {
  list = $state<Word[]>([]);
  private next = 0;

  say(text: string, kind: Word['kind'] = 'good'): void {
    this.add({ kind, text });
  }

  fail(error: unknown): void {
    for (const problem of asProblems(error)) this.add({ kind: 'bad', text: problem.what, problem });
  }

  drop(id: number): void {
    this.list = this.list.filter((each) => each.id !== id);
  }

  private add(word: Omit<Word, 'id'>): void {
    const id = this.next++;
    this.list = [...this.list, { id, ...word }].slice(-4);
    setTimeout(() => this.drop(id), word.kind === 'bad' ? 12_000 : 4_000);
  }
}

const words = new Words();

export { words };
/** Tell that something was done. */
export const say = (text: string, kind?: Word['kind']) => words.say(text, kind);
/** Tell why something was not done. */
export const fail = (error: unknown) => words.fail(error);
