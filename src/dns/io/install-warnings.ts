/** What `dns install` tells of others on this host that go another way than the C library's. */
import { existsSync } from 'node:fs';
import { RESOLVED_UPSTREAMS } from './host-upstreams.ts';
import type { InstallMethod } from './install-plan.ts';
import { BACKUP } from './resolv-conf-file.ts';
import { isResolvedAsked } from './resolved.ts';

const KUBELET = '/var/lib/kubelet';

/**
 * Kubernetes, "Customizing DNS Service": pods with dnsPolicy Default, and CoreDNS among them, have
 * what kubelet's resolvConf says.
 */
export function kubeletWarnings(host: string, methods: readonly InstallMethod[]): string[] {
  const isLoopback = host.startsWith('127.') || host === '::1';
  if (!isLoopback || !existsSync(KUBELET)) return [];
  const without = fileWithoutUs(methods);
  const example = without === undefined ? '' : `, such as ${without}`;
  return [
    `${KUBELET} is there: pods with dnsPolicy Default ask what this host's resolv.conf names, and in a pod ${host} is the pod itself; set kubelet's resolvConf to a file that does not name it${example}`,
  ];
}

/** The copy goes with `dns uninstall`. */
function fileWithoutUs(methods: readonly InstallMethod[]): string | undefined {
  if (methods.some((method) => method !== 'resolv.conf')) return undefined;
  return isResolvedAsked() ? RESOLVED_UPSTREAMS : `a copy of ${BACKUP}`;
}
