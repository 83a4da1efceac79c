. ./checks.sh
files=${QUICK:+480} rounds=${QUICK:+2}
files=${files:-200000} rounds=${rounds:-40}

# Mounts 0 to 5 of this node, 6 and 7 of the others. nosharecache: each has its own cache of files and
# folders, as a client of its own.
number=0
for address in 127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1 $NODES; do
    mount_volume "$address" /mnt/$number nosharecache || exit 1
    number=$((number + 1))
done
is "mounts" "$(grep -c ' nfs ' /proc/mounts) $(stat -c %d /mnt/? | sort -u | wc -l)" "8 8"

# step NAME: all guests have come so far.
step() { ask meet "$1" >/dev/null || exit 1; }
# mark NAME: has the agents' memory read, once.
mark() {
    step "$1"
    [ $NODE != n1 ] || ask memory "$1" >"/tmp/memory-$1" || exit 1
    step "$1, noted"
}
# numbers FIELD FILE...: of all agents, what they hold (1) or held at most (2), in MiB, one a line.
numbers() { awk -v f=$1 '{ for (i = f; i <= NF; i += 2) print $i }' "${@:2}" | sort -n; }
# given_back: all agents hold at most 128 MiB more than before, within 5 minutes. What stays is the log's
# cache (32 MiB), remembered replies (8 MiB) and what open objects and connections need: below 64 MiB,
# and as much again, since Go collects when that much is garbage.
given_back() {
    local most=$(($(numbers 1 /tmp/memory-before | tail -n 1) + 128))
    until ask memory after >/tmp/memory-after && [ "$(numbers 1 /tmp/memory-after | tail -n 1)" -le $most ]; do
        [ $((waited += 10)) -le 300 ] || { cat /tmp/memory-before /tmp/memory-after; return 1; }
        sleep 10
    done
}

ok "close-to-open" ./crowd -rounds $rounds rounds
cat /tmp/said
mark "before"

[ $NODE != n1 ] || mkdir /mnt/0/many
step "folder"
ok "create" ./crowd -files $files create
cat /tmp/said
mark "created"
ok "sample" ./crowd -files $files sample
begun=$SECONDS
case $NODE in
n2) ok "find" cmp <(find /mnt/0/many -type f -printf '%f %s\n' | sort) <(./crowd -files $files sums) ;;
n3) is "ls" "$(ls -f /mnt/0/many/* | grep -c file)" $files ;;
esac
echo "listed in $((SECONDS - begun)) s"
mark "listed"
ok "remove" ./crowd -files $files remove
cat /tmp/said
step "removed"
is "empty folders" "$(find /mnt/1/many -type f | wc -l)" 0
mark "removed"
[ $NODE != n1 ] || ok "rm -r" rm -r /mnt/0/many /mnt/0/rounds
step "away"
is "nothing is left" "$(ls -A /mnt/2)" ""
is "no NFS error in the kernel's log" "$(dmesg | grep -i -E 'nfs|sunrpc|rpc' | grep -v -E 'not responding|OK$|egistered|nstalling')" ""
umount /mnt/?
if [ $NODE = n1 ]; then
    # memory.limit, and 20 MiB of program.
    ok "memory is bounded" [ "$(numbers 2 /tmp/memory-* | tail -n 1)" -le 320 ]
    ok "memory is given back" given_back
fi
exit $failed
