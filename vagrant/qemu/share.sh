#!/bin/bash
# share.sh FOLDER COMMAND…: in a mount name space of its own, makes FOLDER/l this machine's root, read only, with all
# that is mounted below it, and becomes COMMAND. Called through unshare: what it mounts is seen by nobody else.
set -eu
run=$1
shift
mkdir "$run/l"
mount --rbind / "$run/l"
while IFS=' ' read -r _ _ _ _ point options _; do
  case $point in
    "$run/l"/proc/* | "$run/l"/sys/* | "$run/l"/dev/* | "$run/l"/run/*) continue ;; # the guest has its own over them
    "$run/l" | "$run/l"/*) ;;
    *) continue ;;
  esac
  # Options that came with the mount may be locked for a plain user, so they are named again.
  if ! mount -o "remount,bind,${options/rw/ro}" "$(printf %b "$point")" && [[ $point == "$run/l" ]]; then exit 1; fi
done <<<"$(</proc/self/mountinfo)"
mount -t tmpfs tmpfs /run # virtiofsd leaves a lock file there
ulimit -n 1000000 2>/dev/null || ulimit -n "$(ulimit -Hn)" # one for each file the guest has looked at
exec setpriv --pdeathsig KILL "$@"
