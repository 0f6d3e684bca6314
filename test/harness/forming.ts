/** Founding and joining: through the API, since a process costs more than the work, or as people do it. */
import type { TestHost } from './host.ts';

export interface JoinOptions {
  readonly by?: 'api' | 'cli';
  /** What becomes of services that the joining host has. */
  readonly state?: 'merge' | 'discard';
  /** New members may sign too. */
  readonly signer?: boolean;
}

/** POST that must succeed. */
async function post(host: TestHost, path: string, body?: object): Promise<unknown> {
  const answer = await host.api('POST', path, body);
  if (answer.status >= 300)
    throw new Error(`${host.name}: POST ${path}: ${answer.status} ${answer.text}`);
  return answer.json();
}

export async function found(host: TestHost, { by = 'api' }: JoinOptions = {}): Promise<void> {
  if (by === 'cli') await host.must('cluster', 'init');
  else await post(host, '/v1/cluster');
}

/** One word that joins once. */
export async function tokenFrom(
  issuer: TestHost,
  { by = 'api', signer = false }: JoinOptions = {},
): Promise<string> {
  const answer =
    by === 'cli'
      ? (await issuer.must('cluster', 'token', '--json', ...(signer ? ['--signer'] : []))).json()
      : await post(issuer, '/v1/cluster/tokens', { signer });
  return (answer as { token: string }).token;
}

/** Joins the cluster of `issuer`, which listens at `address`, with a token of its own. */
export async function joinCluster(
  issuer: TestHost,
  address: string,
  joiner: TestHost,
  options: JoinOptions = {},
): Promise<void> {
  const token = await tokenFrom(issuer, options);
  const { by = 'api', state } = options;
  if (by === 'api') {
    await post(joiner, '/v1/cluster/join', { address, token, ...(state && { state }) });
    return;
  }
  const how = state === undefined ? [] : [`--${state}`];
  await joiner.must('cluster', 'join', address, '--token', token, ...how);
}
