. ./checks.sh
seconds=${QUICK:+7}
seconds=${seconds:-90}
M=/mnt/n1
mount_volume "$NODE1" $M || exit 1
mkdir $M/{direct,buffered,git,tar,db}

# A source tree in the guest's own memory: some of the host's scripts and perl modules.
S=/tmp/source
mkdir $S
cp -r /usr/lib/x86_64-linux-gnu/perl-base/{File,IO,Hash,List,Text} $S/ || exit 1
[ -n "$QUICK" ] || cp -r /usr/lib/x86_64-linux-gnu/perl-base/unicore /usr/share/bash-completion/completions $S/
git -C $S -c init.defaultBranch=main init -q && git -C $S add . &&
    git -C $S -c user.name=e2e -c user.email=e2e@localhost commit -q -m source || exit 1
list() { (cd "$1" && find . -name .git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum); }
list $S >/tmp/sums

# Each runs one round.
direct() {
    fio --name=direct --directory=$M/direct --size=8M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio \
        --iodepth=8 --verify=crc32c --verify_fatal=1 --randseed=$RANDOM --io_size=2M
}
buffered() {
    fio --name=buffered --directory=$M/buffered --size=16M --rw=randwrite --bsrange=1k-64k --fsync=50 \
        --verify=crc32c --verify_fatal=1 --randseed=$RANDOM --invalidate=1 --io_size=8M
}
clone() {
    rm -rf $M/git/clone &&
        git clone -q "file://$S" $M/git/clone &&
        git -C $M/git/clone fsck --full --strict &&
        git -C $M/git/clone status --porcelain | not grep . &&
        list $M/git/clone | cmp - /tmp/sums
}
archive() {
    rm -rf $M/tar/out && mkdir $M/tar/out &&
        tar -C $S --exclude=.git -cf $M/tar/source.tar . &&
        tar -C $M/tar/out -xf $M/tar/source.tar &&
        list $M/tar/out | cmp - /tmp/sums
}

# repeat PROGRAM: rounds until the time is over, one at least; ends at the first that fails.
repeat() {
    local rounds=0
    until [ $rounds -gt 0 ] && [ -e /tmp/over ]; do
        "$1" >/tmp/$1.log 2>&1 || { echo failed >/tmp/$1.result; return; }
        rounds=$((rounds + 1))
        echo "$1: round $rounds"
    done
    echo well >/tmp/$1.result
}

is "disturbances begin" "$(ask disturb 1)" ok
for program in direct buffered clone archive; do repeat $program & done
for mode in delete wal; do
    python3 database.py $M/db/$mode $mode /tmp/over >/tmp/$mode.log 2>&1 &
    eval "pid_$mode=$!"
done
sleep "$seconds"
touch /tmp/over
wait "$pid_delete"; delete=$?
wait "$pid_wal"; wal=$?
wait
count=$(ask calm)
echo "$count disturbances; $(cat /tmp/delete.log /tmp/wal.log | tr '\n' ' ')"
ok "there were disturbances" [ "$count" -ge 3 ]
for program in direct buffered clone archive; do
    result=$(cat /tmp/$program.result)
    is "$program" "$result" well
    [ "$result" = well ] || tail -n 5 /tmp/$program.log
done
is "SQLite, journal" $delete 0
is "SQLite, write-ahead log" $wal 0
cat /tmp/delete.log /tmp/wal.log | grep -v 'rows$'
is "no NFS error in the kernel's log" "$(dmesg | grep -i -E 'nfs|sunrpc|rpc' | grep -v -E 'not responding|OK$|egistered|nstalling')" ""

# The same data elsewhere.
(cd $M/direct && sha256sum *) >/tmp/fio.sums
umount $M
other=1
for node in "$NODE2" "$NODE3"; do
    mount_volume "$node" /mnt/other || exit 1
    name=n$((++other))
    ok "files through $name" sh -c 'cd /mnt/other/direct && sha256sum --status -c /tmp/fio.sums'
    ok "git through $name" git -C /mnt/other/git/clone fsck --full --strict
    ok "tree through $name" cmp <(list /mnt/other/tar/out) /tmp/sums
    for mode in delete wal; do
        is "SQLite, $mode, through $name" "$(sqlite3 /mnt/other/db/$mode 'pragma integrity_check')" ok
    done
    umount /mnt/other
done
exit $failed
