#!/bin/busybox sh
# shellcheck shell=dash disable=SC2086,SC1091
# First process of the initramfs: modules, the host's root (read only) under an overlay on tmpfs, then guest.sh there.
PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r m; do insmod "$m" || echo "vm: insmod $m failed" >/dev/kmsg; done </m/order
read -r up </vm/overlay-size
mount -t virtiofs -o ro hostroot /l || reboot -f
mount -t tmpfs -o "size=$up,mode=755" tmpfs /t || reboot -f
mkdir /t/w
mv /s /t/u # the checkout as it was when this guest was made
chmod 755 /t/u
# nosuid: shared by a plain user, set-user-id programs belong to somebody else here, and would give root away
mount -t overlay -o "nosuid,lowerdir=/l,upperdir=/t/u,workdir=/t/w" overlay /n || reboot -f
mkdir -p /n/.vm /n/proc /n/sys /n/dev /n/run
cp /vm/* /bin/busybox /n/.vm/
mount -o move /proc /n/proc
mount -o move /sys /n/sys
mount -o move /dev /n/dev
exec switch_root /n /.vm/busybox sh /.vm/guest.sh
