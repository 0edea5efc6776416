// The token of this start of the server: it comes in the address after `#token=`, and leaves the address at once.
const KEY = 'impasto-token';

export function takeToken(): void {
  const given = /^#\/?token=([^&]+)(?:&to=(.*))?$/.exec(location.hash);
  if (!given) return;
  keepToken(decodeURIComponent(given[1]!));
  history.replaceState(null, '', `#${given[2] ? decodeURIComponent(given[2]) : '/'}`);
}

export function keepToken(token: string): void {
  sessionStorage.setItem(KEY, token);
}

export function token(): string {
  return sessionStorage.getItem(KEY) ?? '';
}
