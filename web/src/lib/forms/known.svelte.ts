import { get } from '$lib/api';

export interface Dataset {
  id: string;
  name: string;
  path: string;
  count: number;
  captions: number;
  coverage: number;
  warnings: string[];
  added: number;
  /** Pictures to show it by. */
  cover: string[];
}

export interface Model {
  id: string;
  path: string;
  name: string;
  kind: 'base' | 'adapter' | 'part' | 'other';
  /** What it holds, in words. */
  what: string;
  family: string;
  size: number;
  note: string;
}

/** What is on this machine: folders of pictures and models. */
class Known {
  datasets = $state.raw<Dataset[]>([]);
  models = $state.raw<Model[]>([]);
  asked = $state(false);
  bases = $derived(this.models.filter((each) => each.kind === 'base'));

  async look(): Promise<void> {
    const [datasets, models] = await Promise.allSettled([get<{ datasets: Dataset[] }>('/datasets'), get<{ models: Model[] }>('/tools/models')]);
    if (datasets.status === 'fulfilled') this.datasets = datasets.value.datasets;
    if (models.status === 'fulfilled') this.models = models.value.models;
    this.asked = true;
  }
}

export const known = new Known();
/** Look again at what there is. */
export const seen = () => void known.look();
