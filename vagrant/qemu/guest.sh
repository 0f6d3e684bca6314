#!/.vm/busybox sh
# shellcheck shell=dash disable=SC2086,SC1091
# First process after the switch to the overlay: file systems, modules, then the command, with its output, its results
# and its exit code each through a virtio port. busybox throughout: each dynamic program costs 50-100 ms under TCG.
exec </dev/null >/dev/ttyS0 2>&1 # complaints of this script itself go to the console
b=/.vm/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
m() { $b mkdir -p "$2" 2>/dev/null; $b mount -t "$1" "$1" "$2" -o "${3:-nosuid}" || echo "vm: mount $1 on $2 failed"; }
v=$($b uname -r)
read -r modules </.vm/modules
read -r cwd </.vm/cwd
$b ln -s /proc/self/fd /dev/fd
$b ln -s /proc/self/fd/0 /dev/stdin
$b ln -s /proc/self/fd/1 /dev/stdout
$b ln -s /proc/self/fd/2 /dev/stderr
m tmpfs /run mode=755
$b mkdir -p /run/lock /run/netns "/usr/lib/modules/$v"
m devpts /dev/pts mode=620,ptmxmode=666,gid=5
m tmpfs /dev/shm nosuid,nodev
m cgroup2 /sys/fs/cgroup nosuid,nodev,noexec,nsdelegate
m bpf /sys/fs/bpf mode=700
m securityfs /sys/kernel/security
m tracefs /sys/kernel/tracing
m debugfs /sys/kernel/debug
$b mount -o bind "$modules" "/usr/lib/modules/$v" || echo "vm: no modules"
[ -f "$modules/../config" ] && $b mkdir -p /boot && $b cp "$modules/../config" "/boot/config-$v" # bpftool feature asks for it
# With a plain user's rights on the host root's home is shut.
[ -r /root ] || m tmpfs /root mode=700
echo vm >/proc/sys/kernel/hostname
$b ifconfig lo up
# vportNpM: N is the number of the virtio device, M the nr= of QEMU's command line
i=0
while set -- /dev/vport*p4; [ ! -c "$1" ] && [ $i -lt 100 ]; do $b usleep 100000; i=$((i + 1)); done
[ -c "$1" ] || { echo 'vm: no virtio port'; echo b >/proc/sysrq-trigger; }
p=${1%4}
exec 9>"${p}3"
read -r modprobe </.vm/load
# with its path, or the shell takes busybox's, which hands packed modules to the kernel first
/sbin/modprobe -a -q $modprobe || echo "vm: not all of these modules are there: $modprobe"
# pipes in between: a port can be opened once only, so /dev/stderr would fail with EBUSY
$b mkfifo /.vm/o /.vm/e
$b cat </.vm/o >"${p}1" &
co=$!
$b cat </.vm/e >"${p}2" &
ce=$!
read -r up _ </proc/uptime
echo "start $up" >&9
(
  exec 9>&-
  cd "$cwd" || exit 125
  set -a
  . /.vm/env
  set +a
  exec $b setsid /bin/bash /.vm/cmd </dev/null >/.vm/o 2>/.vm/e
)
rc=$?
[ -f /.vm/results ] && $b cat /.vm/results >"${p}4"
# what the command wrote is on its way; a daemon left behind may hold the pipes: 3 s
i=0
while { kill -0 $co || kill -0 $ce; } 2>/dev/null && [ $i -lt 60 ]; do $b usleep 50000; i=$((i + 1)); done
read -r up _ </proc/uptime
echo "exit $rc $up" >&9
echo b >/proc/sysrq-trigger
