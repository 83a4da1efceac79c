# checks.sh: what a scenario's guest.sh begins with. Each check prints "ok NAME" or
# "not ok NAME: WHY"; the names that pass are compared with file expect.
#
# The runner sets VOLUME, NODE (that this guest is plugged into), NODES (addresses of n1, n2, n3; NODE's
# is 127.0.0.1) and, for short runs, QUICK=1.
read -r NODE1 NODE2 NODE3 <<<"$NODES"
failed=0

# ok NAME COMMAND...: passes when the command does. It runs in this shell: it may change the folder.
ok() {
    local name=$1
    shift
    if "$@" >/tmp/said 2>&1; then
        echo "ok $name"
    else
        failed=1
        echo "not ok $name: $(tail -n 5 /tmp/said | tr '\n' ' ')"
    fi
}

# is NAME GOT WANT: passes when both are the same text.
is() {
    if [ "$2" = "$3" ]; then
        echo "ok $1"
    else
        failed=1
        echo "not ok $1: got '$2', want '$3'"
    fi
}

# not COMMAND...: succeeds when the command fails.
not() { ! "$@"; }

# mount_volume ADDRESS FOLDER [OPTIONS]: mounts the volume through a node as a Proxmox node mounts its own
# agent. What mount.nfs would find out is said: -i does without it.
mount_volume() {
    mkdir -p "$2"
    mount -i -t nfs -o "vers=3,proto=tcp,nolock,hard,nconnect=4,addr=$1,port=2049,mountport=2049,mountproto=tcp,mountvers=3${3:+,$3}" \
        "$1:/$VOLUME" "$2"
}

# kernel_errors: what the kernel's log has to say of NFS, beside "not responding, still trying", and of itself.
kernel_errors() {
    dmesg | grep -i -E 'nfs|sunrpc|rpc|WARNING:|BUG:|blocked for more than|I/O error' |
        grep -v -E 'not responding|OK$|egistered|nstalling'
}

# ask WORD...: has the runner do something to the nodes, or meets the other guests (events.go), and
# prints the answer.
ask() {
    local number=${EPOCHREALTIME/[.,]/}
    local answer=/guest/answers/$number
    echo "@$number $*" >&3
    until [ -e "$answer" ]; do sleep 0.05; done
    cat "$answer"
    not grep -q '^error' "$answer"
}
exec 3>&1 # where ask speaks to the runner, also inside of $(...)
