import { asProblems, Refused, post, putBytes, type Problem, type Schemas } from '$lib/api';

/** What is taken: pictures, and captions beside them. */
const TAKEN = /\.(png|jpe?g|webp|avif|bmp|gif|txt|jxl|tiff?)$/i;
const AT_ONCE = 3;

export type Begun = Schemas['Begun'];

/** A folder on its way from the browser to the server. */
export class Upload {
  done = $state(0);
  total = $state(0);
  running = $state(false);
  problems = $state.raw<Problem[]>([]);

  /** Send the pictures and captions among the files into a new folder. Null where nothing could be sent. */
  async send(name: string, given: File[]): Promise<Begun | null> {
    const files = given.filter((file) => TAKEN.test(file.name) && !file.name.startsWith('.'));
    this.problems = [];
    if (!files.some((file) => !file.name.toLowerCase().endsWith('.txt'))) {
      this.problems = [{ code: 'page', what: 'there are no pictures among these files', where: name, fix: 'drop a folder with .png, .jpg or .webp files.' }];
      return null;
    }
    this.running = true;
    [this.done, this.total] = [0, files.length];
    try {
      const begun = await post<Begun>('/uploads', { name });
      const line = files.values();
      await Promise.all(Array.from({ length: AT_ONCE }, () => this.take(begun, line)));
      return this.done > this.problems.length ? begun : null;
    } catch (error) {
      this.problems = asProblems(error);
      return null;
    } finally {
      this.running = false;
    }
  }

  private async take(begun: Begun, line: Iterator<File>): Promise<void> {
    for (let next = line.next(); !next.done; next = line.next()) {
      try {
        await putBytes(`/uploads/${begun.id.split('/').map(encodeURIComponent).join('/')}/${encodeURIComponent(next.value.name)}`, next.value);
      } catch (error) {
        // A file that is refused is told, and the others go on; a server that is gone ends it.
        if (!(error instanceof Refused) || error.status === 0) throw error;
        this.problems = [...this.problems, ...error.problems].slice(0, 5);
      }
      this.done++;
    }
  }
}

/** The files of a drop, with those in dropped folders, and what the folder is called. */
export async function dropped(transfer: DataTransfer): Promise<{ name: string; files: File[] }> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const folder = entries.find((entry) => entry.isDirectory);
  const files = (await Promise.all(entries.map(inside))).flat();
  return { name: folder?.name ?? 'pictures', files };
}

async function inside(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  // A reader gives a hundred at a time, and none when it is through.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(inside))).flat();
}
