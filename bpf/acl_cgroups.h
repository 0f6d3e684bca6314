/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * New cgroups: which selectors they match, told before mkdir(2) returns, so no
 * task is ever in a cgroup that was not looked at, with the agent dead or alive.
 *
 * The selectors are one automaton over the bytes of paths. A cgroup's entry has
 * the state that its path ended in; a child's name goes on from there.
 */
#ifndef ZH_ACL_CGROUPS_H
#define ZH_ACL_CGROUPS_H

#define ZH_NAME_MAX 255

__noinline __u32 zh_glob(__u32 automaton, __u32 state, __u32 byte)
{
  struct zh_acl_glob_key key = {.automaton = automaton, .state = state, .byte = byte};
  __u32 *next = bpf_map_lookup_elem(&zh_acl_globs, &key);
  if (!next && byte != '/') {
    key.byte = ZH_ACL_ANY_BYTE;
    next = bpf_map_lookup_elem(&zh_acl_globs, &key);
  }
  return next ? *next : 0;
}

/* `name`: an address in the kernel. */
__noinline __u32 zh_glob_name(__u32 automaton, __u32 state, __u64 name)
{
  if (state == 0)
    return 0;
  state = zh_glob(automaton, state, '/');
  for (__u32 i = 0; i < ZH_NAME_MAX; i++) {
    __u8 byte = 0;
    if (state == 0 || bpf_probe_read_kernel(&byte, 1, (void *)(name + i)) || byte == 0)
      break;
    state = zh_glob(automaton, state, byte);
  }
  return state;
}

static __always_inline void zh_add_tag(struct zh_acl_cgroup *entry, __u32 tag)
{
  __u32 count = entry->count;
  for (__u32 i = 0; i < ZH_ACL_TAGS; i++) {
    if (i < count && entry->tags[i] == tag)
      return;
  }
  if (count >= ZH_ACL_TAGS) {
    entry->overflow = 1;
    return;
  }
  entry->tags[count] = tag;
  entry->count = count + 1;
}

/* The entry is made first and completed in place: nobody can be in the cgroup. */
__noinline int zh_classify(__u32 automaton, __u64 parent, __u64 id, __u64 name)
{
  struct zh_acl_cgroup_key key = {.id = parent, .automaton = automaton};
  struct zh_acl_cgroup *entry = bpf_map_lookup_elem(&zh_acl_cgroups, &key);
  if (!entry)
    return 0;
  key.id = id;
  long failed = bpf_map_update_elem(&zh_acl_cgroups, &key, entry, BPF_ANY);
  entry = bpf_map_lookup_elem(&zh_acl_cgroups, &key);
  if (failed || !entry) {
    struct zh_acl_counts *counts = zh_acl_count();
    if (counts)
      __sync_fetch_and_add(&counts->unclassed, 1);
    return 0;
  }
  struct zh_acl_emit_key at = {.automaton = automaton};
  at.state = entry->state = zh_glob_name(automaton, entry->state, name);
  struct zh_acl_emit *emit = bpf_map_lookup_elem(&zh_acl_emits, &at);
  if (!emit)
    return 0;
  for (__u32 i = 0; i < ZH_ACL_TAGS; i++) {
    if (i < emit->count)
      zh_add_tag(entry, emit->tags[i]);
  }
  if (emit->count > ZH_ACL_TAGS)
    entry->overflow = 1;
  return 0;
}

/* A unit that ends at once is gone before anybody can ask where it was. */
__noinline int zh_remember(__u64 id, __u64 parent, __u64 name)
{
  struct zh_acl_place place = {.parent = parent};
  bpf_probe_read_kernel_str(place.name, sizeof(place.name), (void *)name);
  bpf_map_update_elem(&zh_acl_places, &id, &place, BPF_ANY);
  return 0;
}

/* cgroup v2: the tracepoints tell of v1 hierarchies as well. */
static __always_inline int zh_is_v2(struct cgroup *cgroup)
{
  return BPF_CORE_READ(cgroup, root, hierarchy_id) == 0;
}

SEC("?raw_tp/cgroup_mkdir")
int zh_cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
  struct cgroup *cgroup = (struct cgroup *)ctx->args[0];
  struct zh_acl *acl = zh_acl_head();
  if (zh_acl_mode == 0 || !acl || !zh_is_v2(cgroup))
    return 0;
  __u64 id = BPF_CORE_READ(cgroup, kn, id);
  __u64 parent = BPF_CORE_READ(cgroup, self.parent, cgroup, kn, id);
  __u64 name = (__u64)BPF_CORE_READ(cgroup, kn, name);
  zh_remember(id, parent, name);
  for (int i = 0; i < 2; i++) {
    __u32 automaton = READ_ONCE(acl->automata[i]);
    if (automaton != 0)
      zh_classify(automaton, parent, id, name);
  }
  return 0;
}

SEC("?raw_tp/cgroup_rmdir")
int zh_cgroup_rmdir(struct bpf_raw_tracepoint_args *ctx)
{
  struct cgroup *cgroup = (struct cgroup *)ctx->args[0];
  struct zh_acl *acl = zh_acl_head();
  if (zh_acl_mode == 0 || !acl || !zh_is_v2(cgroup))
    return 0;
  struct zh_acl_cgroup_key key = {.id = BPF_CORE_READ(cgroup, kn, id)};
  for (int i = 0; i < 2; i++) {
    key.automaton = READ_ONCE(acl->automata[i]);
    if (key.automaton != 0)
      bpf_map_delete_elem(&zh_acl_cgroups, &key);
  }
  return 0;
}

#endif
