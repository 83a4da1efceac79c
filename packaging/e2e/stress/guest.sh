. ./checks.sh
M=/mnt/n1
mount_volume "$NODE1" $M || exit 1

# Stressors by what they work on, each with its options (stress-ng(1)). They verify what they do.
names='dentry
dir
dirdeep
dirmany
getdent
link
mknod
rename
symlink'
attributes='access
chdir
chmod
chown
dup
fcntl
fstat
open
touch
utime
handle'
blocks='hdd --hdd-bytes 4M
hdd --hdd-bytes 4M --hdd-opts direct,wr-rnd,rd-rnd
hdd --hdd-bytes 4M --hdd-opts sync,wr-rnd,rd-seq
hdd --hdd-bytes 4M --hdd-opts iovec,fsync,wr-seq,rd-rnd
revio --revio-bytes 4M
seek --seek-size 4M
readahead --readahead-bytes 8M
sync-file --sync-file-bytes 4M
aio'
files='aiol
copy-file --copy-file-bytes 128M
fsize
io
mmap --mmap-file --mmap-bytes 4M
msync --msync-bytes 4M
sendfile
splice
fifo'
# These make many calls before they count the first.
slow='filename
iomix --iomix-bytes 8M'
# What NFSv3 does not carry: refused in a way that the stressor takes for an answer.
refused='fallocate --fallocate-bytes 8M
fpunch
chattr
file-ioctl'

# stressor FOLDER SECONDS NAME [OPTION...]: runs one in a folder of its own. It fails with what stress-ng
# says, also where stress-ng itself gives status 0; when nothing was done at all; when a file is left.
stressor() {
    local folder=$1 seconds=$2 said=/tmp/said-${1##*/} status
    shift 2
    mkdir "$folder" || return
    stress-ng --"$1" 1 "${@:2}" --verify --metrics --timeout "$seconds" --temp-path "$folder" >"$said" 2>&1
    status=$?
    if [ $status != 0 ]; then
        echo "status $status: $(grep -v -E ' (info|metrc|debug): ' "$said" | tail -n 3)"
        return
    fi
    # A file that is removed while its pages are still being read has a name until that is done (the
    # kernel's client: .nfs...), and a stressor that does not wait for it cannot remove its folder.
    grep -E '^stress-ng: (fail|error): ' "$said" | grep -v "rmdir .* failed, errno=39 (Directory not empty)" | head -n 3
    awk -v name="$1" '/ metrc: / && $4 == name && $5 > 0 { worked = 1 } / metrc: / { last = $0 } END { if (!worked) print "nothing was done:", last }' "$said"
    emptied "$folder" || echo "left: $(find "$folder" | head -n 3 | tr '\n' ' ')"
}

# emptied FOLDER: removes it, within 5 s, as soon as it holds nothing but empty folders.
emptied() {
    local deadline=$((SECONDS + 5))
    until find "$1" -depth -type d -exec rmdir {} + 2>/dev/null && [ ! -e "$1" ]; do
        [ $SECONDS -lt $deadline ] || return
        sleep 0.1
    done
}

# group PHASE SECONDS LIST: runs the list's stressors at once.
group() {
    local phase=$1 seconds=$2 number=0 line
    while read -r line; do
        number=$((number + 1))
        # shellcheck disable=SC2086 # one word per option
        stressor $M/$number "$seconds" $line >/tmp/result-$number 2>&1 &
    done <<<"$3"
    wait
    number=0
    while read -r line; do
        number=$((number + 1))
        is "$phase: $line" "$(cat /tmp/result-$number)" ""
    done <<<"$3"
}

phase() {
    local list
    for list in names attributes blocks files slow refused; do
        group "$1" "$2" "${!list}"
    done
}

is "xattr is refused" "$(cd $M && stress-ng --xattr 1 --timeout 1 --temp-path . 2>&1 | grep -o 'filesystem does not support xattr')" \
    "filesystem does not support xattr"
phase calm 3
is "disturbances begin" "$(ask disturb 1)" ok
phase disturbed 12
count=$(ask calm)
echo "$count disturbances"
ok "there were disturbances" [ "$count" -ge 10 ]
is "nothing is left" "$(ls -A $M)" ""
is "no error in the kernel's log" "$(kernel_errors)" ""
umount $M
mount_volume "$NODE2" $M || exit 1
is "nothing is left, through n2" "$(ls -A $M)" ""
umount $M
exit $failed
