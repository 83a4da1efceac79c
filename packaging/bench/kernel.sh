# kernel.sh: what the guest runs for the figures with Linux' NFS client (kernel.go reads its lines).
#
# Set are SERVERS ("NAME,ADDRESS,MOUNTPORT,EXPORT NAME,..."), ROUNDS, RUNTIME (seconds of each fio
# run), ENTRIES (files and folders in tree.tar) and FIOMIB. Lines for the host:
#
#	begin N                            may N begin? its answer is the file go-N
#	result WORK SERVER SECONDS COUNT   N is done: COUNT entries or requests
#	rpcs WORK SERVER NAME COUNT MS ... the NFS calls that it took, and how long they were under way in sum
set -eu -o pipefail
M=/mnt/server
TREE=/tmp/tree.tar # in the guest's memory: reading the archive costs the same for both
mkdir -p $M
cp tree.tar $TREE

# A mount of its own for each piece of work: the client's caches are cold and its counters at zero.
attach() {
    local addr port export
    IFS=, read -r server addr port export <<<"$1"
    mount -i -t nfs -o "vers=3,proto=tcp,nolock,hard,nconnect=4,addr=$addr,port=2049,mountport=$port,mountproto=tcp,mountvers=3" \
        "$addr:$export" $M
}

number=0
# may_begin: returns when the host says so.
may_begin() {
    number=$((number + 1))
    echo "begin $number"
    until [ -e go-$number ]; do sleep 0.05; done
}

# rpcs: NFS calls since the mount (/proc/self/mountstats: operations, ..., milliseconds under way).
rpcs() {
    awk -v at=$M '$1 == "device" { here = $5 == at }
        here && $1 ~ /^[A-Z]+:$/ && $2 > 0 && NF >= 9 { printf " %s %d %d", substr($1, 1, length($1) - 1), $2, $8 }' \
        /proc/self/mountstats
}

# timed WORK SERVER COMMAND...: COMMAND puts into count how much it has done.
timed() {
    local work=$1 from to
    attach "$2"
    shift 2
    may_begin
    from=${EPOCHREALTIME/[.,]/}
    "$@"
    to=${EPOCHREALTIME/[.,]/}
    local microseconds=$((to - from))
    echo "rpcs $work $server$(rpcs)"
    echo "result $work $server $((microseconds / 1000000)).$(printf %06d $((microseconds % 1000000))) $count"
    umount $M
}

# Each round has a tree of its own: see below.
tar_x() {
    mkdir $M/round$round
    tar -C $M/round$round -xf $TREE
    count=$ENTRIES
}
find_ls() {
    find $M/round$round/tree -ls >/tmp/listed
    count=$(wc -l </tmp/listed)
    [ "$count" = "$ENTRIES" ] || { echo "find lists $count of $ENTRIES entries"; exit 1; }
}
rm_r() {
    rm -r $M/round$round
    count=$ENTRIES
}
# fio_4k randread|randwrite: fio's third terse format has KiB and milliseconds of reads in fields 6 and 9, of
# writes 41 behind.
fio_4k() {
    fio --name=bench --filename=$M/fio --size="${FIOMIB}M" --rw="$1" --bs=4k --direct=1 --ioengine=libaio --iodepth=16 \
        --time_based --runtime="$RUNTIME" --minimal >/tmp/fio
    count=$(awk -F ';' '{ print ($6 + $47) / 4 }' /tmp/fio)
}

for s in $SERVERS; do
    attach "$s"
    head -c "${FIOMIB}M" /dev/urandom | dd of=$M/fio bs=1M iflag=fullblock conv=fsync status=none
    umount $M
done
# rounds WORK COMMAND...: the servers take turns at being first.
rounds() {
    local work=$1 order=$SERVERS s
    shift
    for round in $(seq "$ROUNDS"); do
        for s in $order; do timed "$work" "$s" "$@"; done
        order="${order#* } ${order%% *}"
    done
}

# Nothing is removed before everything is made: files cost several times as much to make on ext4 for some minutes after
# many were removed (measured; packaging/DESIGN.md).
rounds tar_x tar_x
for s in $SERVERS; do # speed with other contents or attributes would be none
    attach "$s"
    tar -C $M/round1 -df $TREE
    umount $M
done
rounds find_ls find_ls
rounds rm_r rm_r
rounds randwrite fio_4k randwrite
rounds randread fio_4k randread
