. ./checks.sh
images="buffered direct truncated removed" # by what n1 has queued for each when it comes back
megabytes=4
stream() { for _ in $(seq $megabytes); do printf "%-1048576s" ""; done | tr ' ' "$1"; }

# fresh: mounts the volume through this node anew, so that nothing is cached.
fresh() {
    mountpoint -q /mnt && { umount /mnt || return; }
    mount_volume 127.0.0.1 /mnt
}
# contents: how many of the round's images hold what n2 has written, and nothing else.
contents() {
    fresh
    for i in $images; do cmp $D/$i.raw /tmp/new && echo same; done 2>&1 | grep -c -x same
}
# queued: calls that this kernel has sent and that were not answered.
queued() { awk '$1 == "xprt:" { n += $8 - $9 } END { print n }' /proc/self/mountstats; }
refused_to() { ask trinas "$1" image list "$VOLUME" --guest $vmid | awk -v node="$2" '$NF == node' | wc -l; }
activate() { for i in $images; do ask trinas "$1" image activate "$VOLUME" $P/$i.raw || return; done; }
deactivate() { for i in $images; do ask trinas "$1" image deactivate "$VOLUME" $P/$i.raw || return; done; }
# until_is WANT COMMAND...: waits until the command prints that, and prints it; at last whatever it does.
until_is() {
    local want=$1 got
    shift
    for _ in $(seq 300); do
        got=$("$@")
        [ "$got" = "$want" ] && break
        sleep 0.1
    done
    echo "$got"
}
error() { sed -n 's/.*: \(\[Errno 5\] \)\?\(Input\/output error\).*/\2/p' /tmp/$1.err | tail -n 1; }

# The node that is cut off with guests on it.
old() {
    ok "$R: images" fill
    ok "$R: active on n1" activate n1
    is "$R: primary" "$(ask primary "$1")" ok
    gos=()
    later buffered dd if=/tmp/old bs=64k conv=notrunc,fsync
    later direct dd if=/tmp/old bs=64k conv=notrunc oflag=direct
    later truncated python3 -c 'import os; os.ftruncate(1, 0)'
    later removed rm $D/removed.raw
    meet ready
    is "$R: cut off" "$(ask cut n1)" ok
    for go in ${gos[*]}; do echo >&$go; done
    is "$R: n1 has writes under way" "$(for _ in $(seq 100); do [ "$(queued)" -ge 4 ] && echo yes && break; sleep 0.1; done)" yes
    meet cut
    meet restarted
    is "$R: and still has" "$([ "$(queued)" -ge 4 ] && echo yes; jobs -r | wc -l)" "yes
4"
    is "$R: none of them told yet" "$(ask logged n1 image-fenced)" $told
    is "$R: healed" "$(ask heal n1)" ok
    wait
    for i in $images; do is "$R: $i: the old kernel's error" "$(error $i)" "Input/output error"; done
    told=$((told + 4))
    is "$R: told once an image" "$(ask logged n1 image-fenced)" $told
    for go in ${gos[*]}; do exec {go}>&-; done
    is "$R: images as written on n2, seen on n1" "$(contents)" 4
    meet compared
    meet stopped
    dd if=/tmp/old bs=64k conv=notrunc,fsync of=$D/direct.raw 2>/tmp/direct.err
    is "$R: refused also when n2's guest has ended" "$(error direct)" "Input/output error"
    is "$R: and not told again" "$(ask logged n1 image-fenced)" $told
    ok "$R: active on n1 again" activate n1
    ok "$R: n1 may write again" dd if=/tmp/old bs=64k conv=notrunc,fsync of=$D/direct.raw
}
# later NAME COMMAND...: opens an image, since an open would wait for the primary, and has the command
# write to it, its standard output, when a line comes by the last descriptor of gos. No other process may
# have the image open: its end would wait until all is written.
later() {
    local go
    rm -f /tmp/go && mkfifo /tmp/go
    { read -r _ </tmp/go && "${@:2}"; } 1<>$D/$1.raw 2>/tmp/$1.err &
    exec {go}>/tmp/go
    gos+=($go)
}
fill() {
    mkdir -p $D
    for i in $images; do stream o >$D/$i.raw || return; done
    sync
}

# The node where the guests are started again.
new() {
    meet ready
    meet cut
    is "$R: n1 shut out" "$(until_is 4 take_over)" 4
    for i in $images; do ok "$R: $i: written" dd if=/tmp/new bs=64k conv=notrunc,fsync of=$D/$i.raw; done
    meet restarted
    meet compared
    is "$R: images as written on n2, seen on n2" "$(contents)" 4
    ok "$R: guests ended" deactivate n2
    meet stopped
}
take_over() { activate n2 >/dev/null && refused_to n2 n1; }

# A node that only looks.
watch() {
    meet ready
    meet cut
    meet restarted
    meet compared
    is "$R: images as written on n2, seen on n3" "$(contents)" 4
    meet stopped
}

meet() { ask meet "$vmid-$1" ok >/dev/null || exit 1; }
fresh || exit 1
stream 1 >/tmp/old
stream 2 >/tmp/new
told=$(ask logged n1 image-fenced)
for vmid in 100 101; do
    [ $vmid = 100 ] && primary=n1 || primary=n3
    R="primary on $primary" P=images/$vmid D=/mnt/images/$vmid
    case $NODE in
    n1) old $primary ;;
    n2) new ;;
    n3) watch ;;
    esac
done
is "kernel log" "$(kernel_errors)" ""
exit $failed
