. ./checks.sh
M=/mnt/n1
mount_volume "$NODE1" $M || exit 1
S=/usr/lib/x86_64-linux-gnu/perl-base
list() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }
list $S >/tmp/sums
mkdir /mnt/image

is "disturbances begin" "$(ask disturb 1)" ok
for direct in off on; do
    I=$M/direct-io-$direct.img
    truncate -s 192M $I
    ok "mkfs.ext4, direct-io $direct" mkfs.ext4 -q $I
    device=$(losetup --find --show --direct-io=$direct $I)
    ok "mount, direct-io $direct" mount $device /mnt/image
    ok "copy in, direct-io $direct" cp -r $S /mnt/image/a
    ok "copy inside, direct-io $direct" cp -r /mnt/image/a /mnt/image/b
    ok "sync, direct-io $direct" sync -f /mnt/image
    ok "remove, direct-io $direct" rm -r /mnt/image/a
    ok "umount, direct-io $direct" umount /mnt/image
    ok "detach, direct-io $direct" losetup -d $device
    ok "e2fsck, direct-io $direct" e2fsck -fn $I
    ok "mount again, direct-io $direct" mount -o loop,ro $I /mnt/image
    ok "content, direct-io $direct" cmp <(list /mnt/image/b) /tmp/sums
    ok "umount again, direct-io $direct" umount /mnt/image
done
ok "qemu-img convert" qemu-img convert -f raw -O qcow2 $M/direct-io-on.img $M/disk.qcow2
ok "qemu-img check" qemu-img check $M/disk.qcow2
ok "qemu-img compare" qemu-img compare -f raw -F qcow2 $M/direct-io-on.img $M/disk.qcow2
for cache in none writeback; do
    writes=() reads=()
    for i in $(seq 40); do
        writes+=(-c "write -P $i $((i * 1237504)) $((i * 512 * 3))")
        reads+=(-c "read -P $i $((i * 1237504)) $((i * 512 * 3))")
    done
    ok "qemu-io writes, cache $cache" qemu-io -t $cache -f qcow2 "${writes[@]}" -c flush $M/disk.qcow2
    said=$(qemu-io -t $cache -f qcow2 "${reads[@]}" $M/disk.qcow2 2>&1)
    is "qemu-io reads, cache $cache" "$(grep -c '^read ' <<<"$said") $(grep -c -i -E 'verification|error|fail' <<<"$said")" "40 0"
done
ok "qemu-img check after writes" qemu-img check $M/disk.qcow2
ok "there were disturbances" [ "$(ask calm)" -ge 3 ]
umount $M

mount_volume "$NODE2" $M || exit 1
ok "e2fsck through another node" e2fsck -fn $M/direct-io-off.img
ok "qemu-img check through another node" qemu-img check $M/disk.qcow2
umount $M
exit $failed
