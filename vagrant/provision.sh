#!/usr/bin/env bash
# Runs as root in a Vagrant machine: kernel modules, and a Debian 12 to build and test in, so that the results of the
# machines differ by their kernel alone. On Debian 12 that is the machine itself; elsewhere a folder ('guest' enters
# it), because Debian 11, Ubuntu 22.04 and Rocky 9 have no libbpf 1.x to link with. Can be run again.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
userland=/var/lib/zerohop-debian12
modules='veth bridge ip_vs ip_vs_rr ip_vs_wrr sch_netem sch_ingress cls_bpf wireguard nf_tables tun'
# shellcheck source=/dev/null
. /etc/os-release

say() { echo "provision: $*"; }

load_modules() {
  local extra='' module
  case $ID in # cloud kernels leave modules out
    ubuntu) extra="linux-modules-extra-$(uname -r)" ;;
    rocky) extra="kernel-modules-extra-$(uname -r)" ;;
  esac
  if [[ -n $extra ]] && ! modprobe -q sch_netem; then
    install_packages "$extra" || say "$extra cannot be had; tests that need its modules will say so"
  fi
  mkdir -p /etc/modules-load.d
  : >/etc/modules-load.d/zerohop.conf
  for module in $modules; do
    if modprobe -q "$module"; then echo "$module" >>/etc/modules-load.d/zerohop.conf; else say "no module $module"; fi
  done
}

install_packages() { # PACKAGE…
  if command -v apt-get >/dev/null; then
    apt-get -y -q -o DPkg::Lock::Timeout=300 update
    apt-get -y -q -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
  else
    dnf -y -q install "$@"
  fi
}

make_userland() {
  local tools=(debootstrap)
  if [[ $ID == rocky ]]; then
    install_packages epel-release # has debootstrap and Debian's keys
    tools+=(debian-keyring)
  else
    tools+=(debian-archive-keyring)
  fi
  install_packages "${tools[@]}"
  rm -rf "$userland.part"
  debootstrap --variant=minbase --include=ca-certificates,kmod,iproute2,procps \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$userland.part" ${ZEROHOP_MIRROR:+"$ZEROHOP_MIRROR"}
  mv "$userland.part" "$userland"
}

load_modules
if [[ "$ID ${VERSION_ID-}" != 'debian 12' && ! -d $userland ]]; then make_userland; fi
guest=/zerohop/vagrant/guest
if [[ ! -e /zerohop/.node/stamp || ! -e /zerohop/node_modules/.zerohop-lock ]]; then
  "$guest" sh -c 'command -v npm >/dev/null || { apt-get -y -q update && apt-get -y -q install --no-install-recommends npm; }'
fi
"$guest" scripts/setup --test
say "ready: Linux $(uname -r), LSMs $(cat /sys/kernel/security/lsm 2>/dev/null || echo unknown)"
