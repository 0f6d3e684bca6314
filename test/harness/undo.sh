#!/bin/sh
# Takes a test host away, whatever state it is in: its processes, cgroups, netns, mounts and files.
#   undo.sh now CGROUP NETNS DIR
#   undo.sh reap    reads lines "+ CGROUP NETNS DIR" and "- CGROUP NETNS DIR"; when its input ends
#                   (the test process is gone, kill -9 included) takes away the hosts that are left

trap '' INT TERM HUP # a second Ctrl-C must not stop it half way

undo() {
  tries=0
  while [ -d "$1" ] && [ $tries -lt 250 ]; do
    echo 1 >"$1/cgroup.kill" 2>/dev/null # Linux >= 5.14; the loop is for older ones
    find "$1" -depth -type d 2>/dev/null | while IFS= read -r group; do
      while read -r pid; do kill -9 "$pid" 2>/dev/null; done 2>/dev/null <"$group/cgroup.procs"
      rmdir "$group" 2>/dev/null
    done
    [ -d "$1" ] && sleep 0.02
    tries=$((tries + 1))
  done
  # An agent killed with -9 leaves its lock files (src/datapath/io/lock.ts names them so).
  if identity=$(stat -c %d:%i "$3/bpf/zerohop" 2>/dev/null); then
    name=$(printf %s "$identity" | sha256sum | cut -c1-16)
    rm -f "/run/zerohop/pins-$name.lock" "/run/zerohop/pins-$name.lock.pid"
    rmdir /run/zerohop 2>/dev/null
  fi
  awk -v under="$3/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
    while read -r mount; do umount "$mount" || umount -l "$mount"; done
  if [ -e "/run/netns/$2" ]; then ip netns del "$2"; fi
  rm -rf --one-file-system "$3"
  [ ! -d "$1" ]
}

case $1 in
  now) undo "$2" "$3" "$4" ;;
  reap)
    hosts=''
    while read -r what host; do
      if [ "$what" = + ]; then
        hosts="$hosts$host
"
      else
        hosts=$(printf '%s' "$hosts" | grep -vxF "$host")
        hosts="${hosts:+$hosts
}"
      fi
    done
    printf '%s' "$hosts" | while read -r cgroup netns dir; do undo "$cgroup" "$netns" "$dir"; done
    ;;
  *) echo 'usage: undo.sh now CGROUP NETNS DIR | undo.sh reap' >&2 && exit 2 ;;
esac
