#!/usr/bin/env bash
# lsm.sh bpf|none: has the machine boot with BPF LSM or without it, by lsm= on the kernel's command line. Debian 11
# and Ubuntu have it off by default, later Debians on. The caller reboots.
set -euo pipefail
now=$(cat /sys/kernel/security/lsm)
wanted=$(tr ',' '\n' <<<"$now" | grep -vx -e bpf -e capability | paste -sd,) # capability is always there
case ${1-} in
  bpf) wanted=$wanted,bpf ;;
  none) ;;
  *) echo 'usage: lsm.sh bpf|none' >&2 && exit 2 ;;
esac
if command -v grubby >/dev/null; then # Rocky
  grubby --update-kernel=ALL --remove-args=lsm --args="lsm=$wanted"
else
  mkdir -p /etc/default/grub.d
  # shellcheck disable=SC2016 # grub's own variable
  printf 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX lsm=%s"\n' "$wanted" >/etc/default/grub.d/zz-zerohop.cfg
  update-grub
fi
echo "lsm: $now now, $wanted after the reboot"
