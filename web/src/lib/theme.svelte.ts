export type Theme = 'system' | 'light' | 'dark';

const KEY = 'impasto-theme';

/** Which look is chosen; `version` rises when colours change, for what is drawn on a canvas. */
class Look {
  theme = $state<Theme>((localStorage.getItem(KEY) as Theme | null) ?? 'system');
  version = $state(0);

  constructor() {
    this.show();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.version++);
  }

  choose(theme: Theme): void {
    this.theme = theme;
    localStorage.setItem(KEY, theme);
    this.show();
    this.version++;
  }

  private show(): void {
    if (this.theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
  }
}

export const look = new Look();

/** What a token's colour is at present, for a canvas. */
export function colour(token: string): string {
  const probe = document.createElement('i');
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
