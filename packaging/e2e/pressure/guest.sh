. ./checks.sh
megabytes=2048 files=3000
M=/mnt/own     # the volume, through this node's own agent
D=/mnt/disk    # this node's disk
agent=$D/trinas
socket=$D/control.sock
trinas() { $agent "$@" --socket $socket; }
log() { tail -n "$1" /guest/agent.log | sed 's/^/agent: /'; }
seconds() { echo "$(((${EPOCHREALTIME/[.,]/} - $1) / 100000))" | sed 's/.$/.&/'; }

# This node: ext4, the program on it, and an agent with its defaults but for places and addresses.
mkfs.ext4 -q -E nodiscard /dev/ubda || exit 1
mkdir -p $D $M
mount /dev/ubda $D || exit 1
cp /guest/trinas $agent || exit 1
address=$(ip -4 -o addr show dev vec0 | sed 's/.*inet \([0-9.]*\).*/\1/')
cat >$D/trinas.toml <<END
data_dir = "$D/data"
[control]
socket = "$socket"
[node]
name = "n3"
[peer]
listen = "$address:7370"
advertise = "$address:7370"
END
# Its log goes to the host: that takes no memory here, and is still there when the guest is not.
$agent agent --config $D/trinas.toml >/guest/agent.log 2>&1 &
pid=$!
until [ -S $socket ]; do
    kill -0 $pid || { log 20; exit 1; }
    sleep 0.1
done
read -r inviter token <<<"$(ask invite)"
ok "join" trinas join "$inviter" --token "$token"
is "volume" "$(ask volume)" ok
mount_volume 127.0.0.1 $M || exit 1

# What protects the agent. PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE make an I/O flusher (prctl(2)); field 9
# of proc_pid_stat(5) holds a thread's flags.
unflagged=0
for stat in /proc/$pid/task/*/stat; do
    read -r -a field <$stat
    [ $((field[8] & 0x180000)) = $((0x180000)) ] || unflagged=$((unflagged + 1))
done
is "every thread is an I/O flusher" $unflagged 0
is "OOM score" "$(cat /proc/$pid/oom_score_adj)" -900

/guest/pressure tree /tmp/tree $files || exit 1
tar -C /tmp/tree -cf $D/tree.tar . || exit 1
(cd /tmp/tree && find . -type f -print0 | sort -z | xargs -0 sha256sum) >$D/sums
rm -r /tmp/tree
echo 0 >/proc/sys/vm/oom_dump_tasks # else the kernel's log overflows
dmesg -C
mkfifo $D/never

# sample: says how memory stands, in MiB, without a process of its own.
sample() {
    local key value _ text=
    while read -r key value _; do
        case $key in MemFree: | MemAvailable: | Dirty: | Writeback: | AnonPages:) text+="$key $((value >> 10)) " ;; esac
    done </proc/meminfo
    while read -r key value _; do
        case $key in VmRSS: | VmHWM:) text+="agent $key $((value >> 10)) " ;; esac
    done </proc/$pid/status
    echo "$text"
}

# peak: how much memory the agent has held at most since forget_peak, in MiB (proc_pid_status(5)).
peak() { awk '/^VmHWM:/ { print int($2 / 1024) }' /proc/$pid/status; }
forget_peak() { echo 5 >/proc/$pid/clear_refs; }
# most: memory.limit, which is 64 MiB on so small a machine, 16 of program, and 16 that Go does not count.
most=96

# hogs: one after the other, six at most; each ends by the OOM killer (status 137).
hogs() {
    local i
    for i in 1 2 3 4 5 6; do
        [ ! -e $D/calm ] || return
        /guest/pressure hog 24 4
        echo $?
    done
}

# press NODE: everything at once, with the volume's primary on that node.
press() {
    local name="primary on $1" F=$M/$1 begun hogs dd tar
    ok "$name" trinas volume primary "$VOLUME" "$1"
    mkdir $F
    rm -f $D/calm
    forget_peak
    begun=${EPOCHREALTIME/[.,]/}
    hogs >$D/hogs.log 2>&1 &
    hogs=$!
    (set -o pipefail; /guest/pressure stream 7 $((megabytes << 20)) | dd of=$F/large bs=1M iflag=fullblock conv=fsync) 2>$D/dd.log &
    dd=$!
    (tar -C $F -xf $D/tree.tar; status=$?; echo "tar, $name: $(seconds $begun) s"; exit $status) &
    tar=$!
    while [ -e /proc/$dd ] || [ -e /proc/$tar ]; do
        read -r -t 5 <>$D/never # as sleep, but no program has to be read for it
        sample
    done
    wait $dd
    is "dd, $name" $? 0
    echo "= $name: $(seconds $begun) s in all; agent at most $(peak) MiB; dd: $(tail -n 1 $D/dd.log)"
    wait $tar
    is "tar, $name" $? 0
    touch $D/calm
    wait $hogs
    echo "$(grep -c -x 137 $D/hogs.log) hogs killed"
    ok "memory ran out, $name" grep -q -x 137 $D/hogs.log
    ok "the agent's memory, $name" [ $(peak) -le $most ]
    dmesg -c >>$D/dmesg
}
press n3
press n1
is "the agent runs, and was never another process" "$(readlink /proc/$pid/exe)" $agent
is "the kernel killed nothing but hogs" "$(grep 'Killed process' $D/dmesg | grep -v '(pressure)')" ""
log 15

# What arrived, read from the servers anew: here, and through another node.
umount $M
mount_volume 127.0.0.1 $M || exit 1
mount_volume "$NODE2" /mnt/other || exit 1
for primary in n3 n1; do
    for mount in $M /mnt/other; do
        ok "large file of $primary, ${mount#/mnt/}" cmp $mount/$primary/large <(/guest/pressure stream 7 $((megabytes << 20)))
        ok "tree of $primary, ${mount#/mnt/}" sh -c "cd $mount/$primary && sha256sum --status -c $D/sums"
    done
done
umount $M /mnt/other
exit $failed
