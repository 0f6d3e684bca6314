/**
 * The cgroup programs of bpf/zerohop_dns.bpf.c. Order of attachment: what undoes a
 * rewrite comes before what rewrites.
 */
import type { Hook } from '../datapath/hooks.ts';

const hook = (name: string, attachType: string): Hook => ({
  program: `zh_dns_${name}`,
  name: `dns_${name}`,
  attachType,
});

export const dnsHooks: readonly Hook[] = [
  hook('getpeername4', 'BPF_CGROUP_INET4_GETPEERNAME'),
  hook('getpeername6', 'BPF_CGROUP_INET6_GETPEERNAME'),
  hook('recvmsg4', 'BPF_CGROUP_UDP4_RECVMSG'),
  hook('recvmsg6', 'BPF_CGROUP_UDP6_RECVMSG'),
  hook('connect4', 'BPF_CGROUP_INET4_CONNECT'),
  hook('connect6', 'BPF_CGROUP_INET6_CONNECT'),
  hook('sendmsg4', 'BPF_CGROUP_UDP4_SENDMSG'),
  hook('sendmsg6', 'BPF_CGROUP_UDP6_SENDMSG'),
];
