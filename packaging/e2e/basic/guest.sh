. ./checks.sh
M=/mnt/n1
mount_volume "$NODE1" $M || exit 1
D=$M/dir
ok "mkdir" mkdir $D
cd $D || exit 1
again() { cd / && umount $M && mount_volume "$NODE1" $M && cd $D; }
lines() { for i in $(seq "$N"); do echo "data $i"; done; }
sum() { sha256sum | cut -c 1-64; }

# Many names.
N=${QUICK:+50}
N=${N:-1000}
for i in $(seq "$N"); do echo "data $i" >"f$i"; done
is "names listed" "$(ls | wc -l)" "$N"
ok "mount anew" again
is "content of many files" "$(cat $(seq -f f%g "$N") | sum)" "$(lines | sum)"
perl -e 'rename "f$_", "g$_" or die "$_: $!" for 1..$ARGV[0]' "$N"
is "names after rename" "$(ls)" "$(seq -f g%g "$N" | sort)"
mkdir d
mv g1 d/
is "rename into a directory" "$(cat d/g1)" "data 1"
echo new >n
mv n g2
is "rename over a file" "$(cat g2)" new
is "rmdir of a directory with a file" "$(rmdir d 2>&1)" "rmdir: failed to remove 'd': Directory not empty"
rm d/g1
ok "rmdir" rmdir d
rm g*
is "all removed" "$(ls -A)" ""
mkdir -p $(for i in $(seq 100); do echo t/$((i % 10))/$i; done)
is "a tree" "$(find t -type d | wc -l)" 111
ok "rm -r" rm -r t

# Data.
R=/tmp/random
head -c 1M /dev/urandom >$R
S=$(sum <$R)
ok "write 256 KiB blocks O_DIRECT" dd if=$R of=a bs=256k oflag=direct
ok "write 4 KiB blocks O_DIRECT" dd if=$R of=b bs=4k oflag=direct
ok "write buffered, fsync" dd if=$R of=c bs=64k conv=fsync
ok "mount anew after writes" again
for f in a b c; do is "content of $f" "$(sum <$f)" "$S"; done
is "read O_DIRECT" "$(dd if=a bs=256k iflag=direct 2>/dev/null | sum)" "$S"
ok "overwrite" dd if=/dev/zero of=a bs=4k seek=3 count=2 conv=notrunc oflag=direct
is "content after overwrite" "$(sum <a)" \
    "$( (head -c 12288 $R; head -c 8192 /dev/zero; tail -c +20481 $R) | sum)"
echo x >>a
is "size after append" "$(stat -c %s a)" 1048578
truncate -s 5000 b
is "size after truncate" "$(stat -c %s b)" 5000
is "content after truncate" "$(sum <b)" "$(head -c 5000 $R | sum)"
truncate -s 20000 b
is "size after truncate upwards" "$(stat -c %s b)" 20000
is "zeros after truncate upwards" "$(tail -c 15000 b | tr -d '\0' | wc -c)" 0
dd if=$R of=holes bs=4k seek=1000 count=1 2>/dev/null
is "size with holes" "$(stat -c %s holes)" 4100096
ok "mount anew with holes" again
is "content with holes" "$(sum <holes)" "$( (head -c 4096000 /dev/zero; head -c 4096 $R) | sum)"
echo q >a
is "open truncates" "$(cat a)" q

# Names, links, attributes.
ok "O_EXCL makes a file" bash -c 'set -C; echo 1 >ex'
ok "O_EXCL refuses a file" not bash -c 'set -C; echo 2 >ex'
is "content after O_EXCL" "$(cat ex)" 1
ln -s some/target sl
is "symlink" "$(readlink sl)" some/target
ln ex hl
is "link count" "$(stat -c %h ex)" 2
is "same inode" "$(stat -c %i ex)" "$(stat -c %i hl)"
rm ex
is "other name stays" "$(cat hl)" 1
is "link count down" "$(stat -c %h hl)" 1
chmod 4755 hl
is "mode with setuid" "$(stat -c %a hl)" 4755
chown 1234:5678 hl
is "owner" "$(stat -c %u:%g hl)" 1234:5678
touch -d '2001-02-03 04:05:06.123456789 UTC' hl
is "modification time" "$(TZ=UTC stat -c %y hl)" "2001-02-03 04:05:06.123456789 +0000"
touch -a -d '2002-02-03 04:05:06 UTC' hl
is "access time" "$(TZ=UTC stat -c %x hl)" "2002-02-03 04:05:06.000000000 +0000"
is "modification time kept" "$(TZ=UTC stat -c %y hl)" "2001-02-03 04:05:06.123456789 +0000"
mkfifo ff
is "fifo" "$(stat -c %F ff)" fifo
mknod cd c 1 3
is "device" "$(stat -c %t:%T cd)" 1:3
(umask 027; touch um; mkdir umd)
is "umask of a file" "$(stat -c %a um)" 640
is "umask of a directory" "$(stat -c %a umd)" 750
before=$(stat -c %.9Y .)
touch newone
ok "a new name changes the directory's time" [ "$before" != "$(stat -c %.9Y .)" ]
long=$(printf 'x%.0s' $(seq 255))
ok "name of 255 bytes" touch "$long"
is "name of 255 bytes listed" "$(ls | grep '^x')" "$long"
ok "name of 256 bytes refused" not touch "x$long"
touch $'a b\tc\n\xc3\xa9'
is "odd name" "$(printf '%s|' a*)" $'a|a b\tc\n\xc3\xa9|'
is "no such file" "$(cat nothere 2>&1)" "cat: nothere: No such file or directory"
is "not a directory" "$(cat hl/x 2>&1)" "cat: hl/x: Not a directory"
is "directory exists" "$(mkdir umd 2>&1)" "mkdir: cannot create directory ‘umd’: File exists"
is "removed while open" "$(bash -c 'echo keep >so; exec 5<so; rm so; cat <&5')" keep
is "no .nfs file left" "$(ls -A | grep -c '^\.nfs')" 0
ok "free space" [ "$(stat -f -c %a $M)" -gt 0 ]
is "longest name" "$(stat -f -c %l $M)" 255
cd $M
ok "rm -r of all" rm -r $D
is "empty" "$(ls -A)" ""
cd /
ok "umount" umount $M

# As the storage plugin has systemd mount it: by mount.nfs, with the agent's word for the options.
ok "mount with the agent's options" timeout 20 mount -t nfs -o "$MOUNT_OPTIONS" "$NODE1:/$VOLUME" $M
is "hard and four connections" "$(grep -c " $M nfs .*,hard,.*nconnect=4" /proc/mounts)" 1
is "written through it" "$(echo x >$M/by_options && cat $M/by_options)" x
ok "umount again" umount $M
exit $failed
