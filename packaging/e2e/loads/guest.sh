. ./checks.sh
M=/mnt/n1
mount_volume "$NODE1" $M || exit 1
dmesg -n 1 # "not responding, still trying" is what the disturbances are for

# fio writes and reads back what it wrote; several jobs, with blocks of any size.
fio_verify() {
    fio --directory="$PWD" --group_reporting --size=4M --io_size=4M --rw=randrw --rwmixwrite=70 --verify=crc32c \
        --verify_fatal=1 --verify_backlog=256 --randseed=$RANDOM --fallocate=none --end_fsync=1 --allow_file_create=1 "$@"
}
fio_direct_aio() { fio_verify --name=da --numjobs=3 --ioengine=libaio --iodepth=16 --direct=1 --bsrange=4k-128k --blockalign=4k; }
fio_direct_sync() { fio_verify --name=ds --numjobs=2 --ioengine=psync --direct=1 --bsrange=512-64k --blockalign=512; }
fio_buffered_aio() { fio_verify --name=ba --numjobs=2 --ioengine=libaio --iodepth=8 --bsrange=512-256k --blockalign=512 --fsync=32; }
fio_buffered_sync() { fio_verify --name=bs --numjobs=3 --ioengine=psync --bsrange=512-100k --bs_unaligned --invalidate=1; }
fio_mapped() { fio_verify --name=mm --numjobs=1 --ioengine=mmap --bs=4k; }

# dbench replays what a file server's users do, and checks sizes, positions and names.
dbench_clients() { dbench -D . -c /usr/share/dbench/client.txt -t "$seconds" 4; }

# Without its tests byte by byte, which measure the C library.
bonnie() { bonnie++ -f -q -d . -u root -r 8M -s 16M -n 1:8000:0:4 -x 1; }

# One bare repository that gets commits, is packed and cloned again.
git_pushes() {
    local i
    git init -q --bare -b main bare.git && git clone -q bare.git work 2>&1 || return
    for i in 1 2 3 4; do
        cp /usr/share/bash-completion/completions/[$i-9a-c]* work/ &&
            seq "$((i * 2000))" >work/numbers &&
            git -C work add . &&
            git -C work -c user.name=e2e -c user.email=e2e@localhost commit -q -m "$i" &&
            git -C work push -q origin HEAD:main || return
    done
    git -C bare.git repack -q -a -d -f && git -C bare.git gc -q --prune=now &&
        git -C bare.git fsck --full --strict && git clone -q bare.git again &&
        diff -r -x .git work again
}

# Two connections write to one database in turn; its log is shared memory then.
sqlite_writers() {
    local writer i pids=()
    sqlite3 ledger 'pragma journal_mode = wal; create table t (writer, number, text)' >/dev/null || return
    for writer in 1 2; do
        for i in $(seq 40); do
            echo "insert into t values ($writer, $i, hex(randomblob($((i * 97)))));"
        done | sqlite3 -cmd '.timeout 60000' -bail ledger &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || return; done
    [ "$(sqlite3 ledger 'select count(*), count(distinct writer || number) from t; pragma integrity_check')" = '80|80
ok' ]
}

# QEMU copies with many requests at once and out of order, makes snapshots and goes back to one.
qemu_images() {
    local said
    qemu-img create -q -f qcow2 base.qcow2 64M &&
        qemu-io -t none -f qcow2 -c 'write -P 7 0 6M' -c 'write -P 8 30M 3000k' -c flush base.qcow2 &&
        qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 &&
        qemu-io -t none -f qcow2 -c 'write -P 9 1M 5k' -c 'discard 31M 512k' -c flush top.qcow2 &&
        qemu-img snapshot -c before top.qcow2 &&
        qemu-io -t none -f qcow2 -c 'write -P 10 2M 4M' -c flush top.qcow2 &&
        qemu-img convert -t none -T none -m 16 -W -O raw top.qcow2 copy.raw &&
        qemu-img compare -f qcow2 -F raw top.qcow2 copy.raw &&
        qemu-img snapshot -a before top.qcow2 &&
        not qemu-img compare -q -f qcow2 -F raw top.qcow2 copy.raw &&
        qemu-img commit -q top.qcow2 &&
        qemu-img check top.qcow2 && qemu-img check base.qcow2 || return
    said=$(qemu-io -r -f qcow2 -c 'read -P 7 0 1M' -c 'read -P 9 1M 5k' -c 'read -P 7 2M 4M' -c 'read -P 8 30M 1M' base.qcow2 2>&1)
    [ "$(grep -c '^read ' <<<"$said") $(grep -c -i -E 'verification|error|fail' <<<"$said")" = "4 0" ]
}

loads="fio_direct_aio fio_direct_sync fio_buffered_aio fio_buffered_sync fio_mapped dbench_clients bonnie git_pushes sqlite_writers qemu_images"

# repeat LOAD FOLDER: rounds until the time is over, one at least; ends at the first that fails.
repeat() {
    local rounds=0
    until [ $rounds -gt 0 ] && [ -e /tmp/over ]; do
        rm -rf "$2" && mkdir "$2" && cd "$2" || return
        "$1" >/tmp/$1.log 2>&1 || { echo "failed in round $((rounds + 1)): $(tail -n 5 /tmp/$1.log | tr '\n' ' ')" >/tmp/$1.result; return; }
        rounds=$((rounds + 1))
        cd /
    done
    echo "$1: $rounds rounds"
    echo well >/tmp/$1.result
}

# phase NAME SECONDS: all loads at once.
phase() {
    local load pids=()
    seconds=$2
    rm -f /tmp/over
    for load in $loads; do
        (repeat $load $M/$1-$load) &
        pids+=($!)
    done
    sleep "$seconds"
    touch /tmp/over
    wait "${pids[@]}"
    for load in $loads; do
        is "$1: $load" "$(cat /tmp/$load.result)" well
    done
}

phase calm 10
is "disturbances begin" "$(ask disturb 1)" ok
phase disturbed 40
count=$(ask calm)
echo "$count disturbances"
ok "there were disturbances" [ "$count" -ge 5 ]

# What is left is read from each of the replicas, which answers when it is the primary.
(cd $M && find . -type f ! -name '.nfs*' -print0 | sort -z | xargs -0 sha256sum) >/tmp/sums
ok "there is something to compare" [ "$(wc -l </tmp/sums)" -ge 100 ]
umount $M
number=0
for node in $NODES; do
    name=n$((++number))
    is "$name becomes primary" "$(ask primary $name)" ok
    mount_volume "$node" $M || exit 1
    is "the same bytes at $name" "$(cd $M && sha256sum --quiet -c /tmp/sums 2>&1 | head -n 3)" ""
    umount $M
done
is "no error in the kernel's log" "$(kernel_errors)" ""
exit $failed
