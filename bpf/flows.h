/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What an unconnected UDP socket talks to: up to ZH_FLOWS VIPs at a time, kept
 * with the socket itself, so it dies with it.
 *
 * A flow (socket, VIP) stays with its backend until that one is removed or down;
 * draining keeps it. Protocols of more than one datagram (QUIC, DTLS, DNS
 * retries) need it, and IPVS and conntrack behave so too. Of a backend that is
 * down nobody would answer, and the sender would not hear of it: nothing closes.
 */
#ifndef ZH_FLOWS_H
#define ZH_FLOWS_H

/* The pair under which this socket already talks to the VIP. */
static __always_inline int zh_flow_by_vip(struct zh_flows *flows, const struct zh_vip_key *key,
                                          struct zh_pair *pair)
{
  int found = 0;
  bpf_spin_lock(&flows->lock);
  for (int i = 0; i < ZH_FLOWS; i++) {
    if (flows->pair[i].vip_port == key->port && zh_same_addr(flows->pair[i].vip, key->addr)) {
      *pair = flows->pair[i];
      flows->last = i;
      found = 1;
      break;
    }
  }
  bpf_spin_unlock(&flows->lock);
  return found;
}

/* The pair whose backend is addr:port; of several, the one sent to last. */
static __always_inline int zh_flow_by_peer(struct zh_flows *flows, const __u32 addr[4],
                                           __be16 port, struct zh_pair *pair)
{
  int found = 0;
  bpf_spin_lock(&flows->lock);
  __u32 last = flows->last;
  for (int i = 0; i < ZH_FLOWS; i++) {
    __u32 at = (last + i) & (ZH_FLOWS - 1);
    if (flows->pair[at].port == port && zh_same_addr(flows->pair[at].addr, addr)) {
      *pair = flows->pair[at];
      found = 1;
      break;
    }
  }
  bpf_spin_unlock(&flows->lock);
  return found;
}

/* Writes over the flow of the same VIP, else over the oldest. Returns whether
 * another VIP's flow had to go. */
static __always_inline int zh_flow_put(struct zh_flows *flows, const struct zh_pair *pair)
{
  int at = -1;
  bpf_spin_lock(&flows->lock);
  for (int i = 0; i < ZH_FLOWS; i++) {
    if (flows->pair[i].vip_port == pair->vip_port &&
        zh_same_addr(flows->pair[i].vip, pair->vip)) {
      at = i;
      break;
    }
  }
  if (at < 0) {
    at = flows->next;
    flows->next = at + 1;
  }
  at &= ZH_FLOWS - 1;
  int evicts = flows->pair[at].port != 0 && (flows->pair[at].vip_port != pair->vip_port ||
                                             !zh_same_addr(flows->pair[at].vip, pair->vip));
  flows->pair[at] = *pair;
  flows->last = at;
  bpf_spin_unlock(&flows->lock);
  return evicts;
}

/* Whether the flow's backend still is what it was when the flow began, and can
 * be reached. The address counts too: maps made anew count their indices and incarnations from
 * the start, and the flow outlives them. */
static __always_inline int zh_flow_valid(const struct zh_pair *pair)
{
  __u32 id = pair->backend;
  struct zh_backend *backend = bpf_map_lookup_elem(&zh_backends, &id);
  return backend && backend->state != ZH_BACKEND_FREE && backend->state != ZH_BACKEND_DOWN &&
         backend->incarnation == pair->incarnation && backend->service == pair->service &&
         backend->port == pair->port && zh_same_addr(backend->addr, pair->addr);
}

#endif
