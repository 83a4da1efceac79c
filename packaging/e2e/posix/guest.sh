. ./checks.sh
entries=${QUICK:+600}
entries=${entries:-20000}

# First where the answers are known, with few entries: a check that fails here is wrong itself.
truncate -s 64M /tmp/ext4
mkfs.ext4 -q -b 4096 /tmp/ext4
mkdir /mnt/ext4
mount -o loop /tmp/ext4 /mnt/ext4 || exit 1
./posix -dir /mnt/ext4 -prefix "ext4: " -entries 600 || failed=1
umount /mnt/ext4

mount_volume "$NODE1" /mnt/n1 || exit 1
./posix -dir /mnt/n1 -nfs -entries "$entries" || failed=1
is "nothing is left" "$(ls -A /mnt/n1)" ""
umount /mnt/n1
exit $failed
