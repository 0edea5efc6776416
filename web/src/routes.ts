import type { Route } from '$lib/router.svelte';
import type { IconName } from '$lib/ui';

export const NAVIGATION: { path: string; label: string; icon: IconName }[] = [
  { path: '/', label: 'Home', icon: 'home' },
  { path: '/datasets', label: 'Datasets', icon: 'data' },
  { path: '/new', label: 'New run', icon: 'new' },
  { path: '/runs', label: 'Runs', icon: 'runs' },
  { path: '/lab', label: 'Lab', icon: 'lab' },
  { path: '/tools', label: 'Tools', icon: 'tools' },
];

export const ROUTES: Route[] = [
  { pattern: '/', page: () => import('./pages/home/Home.svelte') },
  { pattern: '/datasets', page: () => import('./pages/datasets/Datasets.svelte') },
  { pattern: '/datasets/:id*', page: () => import('./pages/datasets/Dataset.svelte') },
  { pattern: '/new', page: () => import('./pages/newrun/NewRun.svelte') },
  { pattern: '/runs', page: () => import('./pages/runs/Runs.svelte') },
  { pattern: '/runs/:id', page: () => import('./pages/run/Run.svelte') },
  { pattern: '/queue', page: () => import('./pages/queue/Queue.svelte') },
  { pattern: '/lab', page: () => import('./pages/lab/Lab.svelte') },
  { pattern: '/tools', page: () => import('./pages/tools/Tools.svelte') },
  { pattern: '/tools/:tab', page: () => import('./pages/tools/Tools.svelte') },
];
