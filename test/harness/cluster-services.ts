/** Servers on the hosts of a cluster, and services of them. */
import type { Child } from './child.ts';
import type { TestCluster } from './cluster.ts';
import { echoes } from './servers.ts';
import { putService, vipOf } from './services.ts';
import type { Place } from './wires.ts';

export const SERVER_PORT = 8080;

/** A server on the host, on both of its addresses, that answers the host's name. */
export async function serveOn(cluster: TestCluster, at: Place, port = SERVER_PORT): Promise<Child> {
  const name = cluster.nameOf(at);
  const specs = ([4, 6] as const).map((family) => ({
    name,
    address: cluster.addressOf(at, family),
    port,
  }));
  return (await echoes(cluster.host(at), ...specs)).process;
}

/** Creates a service on one host, port 80, with backends on others, and answers its IPv4 VIP. */
export async function addService(
  cluster: TestCluster,
  on: Place,
  name: string,
  backends: readonly Place[],
  port = SERVER_PORT,
): Promise<string> {
  await putService(cluster.host(on), name, {
    ports: [{ port: 80 }],
    backends: backends.flatMap((at) =>
      ([4, 6] as const).map((family) => ({ address: cluster.addressOf(at, family), port })),
    ),
  });
  return await vipOf(cluster.host(on), name);
}

/** The IPv4 backends of a service on these hosts, as TestCluster.backendsOn() has them. */
export function expectedOn(
  cluster: TestCluster,
  places: readonly Place[],
  port = SERVER_PORT,
): string[] {
  return places.map((at) => `${cluster.addressOf(at)}:${port}`).toSorted();
}
