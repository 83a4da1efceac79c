. ./checks.sh
ME=$(ip -4 route get "$NODE1" | sed -n 's/.* src \([^ ]*\).*/\1/p')
NET=10.77.0.0/24
M=/mnt/n1
mkdir -p /mnt/n1 /mnt/n2 /mnt/n3

# As hosts mount a NAS: nothing is said of ports. retry=0: a refusal is final.
plain_mount() { timeout 20 mount -t nfs -o vers=3,nolock,retry=0 "$1:/$VOLUME" "$2"; }
trinas() { ask trinas n1 volume "$1" "$VOLUME" "${@:2}"; }
exported() { showmount --no-headers -e "$1" | sed -n "s,^/$VOLUME *,,p"; }
# settle COMMAND...: n2 and n3 hear of a rule a heartbeat later than n1, where it is given.
settle() { for _ in $(seq 50); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; "$@"; }
owner() { stat -c %u:%g "$1"; }
as_user() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }

# The lab has allowed its whole network.
ok "rule removed" trinas deny $NET
ok "no rule twice" not trinas deny $NET
is "mount without a rule" "$(plain_mount "$NODE1" $M 2>&1 | grep -c 'access denied')" 1
is "exported to nobody else" "$(exported "$NODE1")" 127.0.0.1
for n in "$NODE1" "$NODE2" "$NODE3"; do
    ok "rpcinfo nfs ${n##*.}" rpcinfo -T tcp "$n" nfs 3
    ok "rpcinfo mountd ${n##*.}" rpcinfo -T tcp "$n" mountd 3
done
ok "nonsense refused" not trinas allow 10.77.0.1/24

ok "rule given" trinas allow $NET --squash none
is "exported to the network" "$(exported "$NODE1")" $NET
for i in 1 2 3; do
    n=NODE$i
    ok "mount n$i" settle plain_mount "${!n}" /mnt/n$i
    echo "by n$i" >/mnt/n$i/from$i
done
is "all see all" "$(cat /mnt/n2/from1 /mnt/n3/from2 $M/from3)" "$(printf 'by n%s\n' 1 2 3)"
is "root is root" "$(owner $M/from1)" 0:0
umount /mnt/n2 /mnt/n3
mkdir -m 1777 $M/open

exec 5<$M/from1
ok "rule removed under a mount" trinas deny $NET
# A name that the guest has never asked for: what it has, it shows from its cache for some seconds.
is "lookup without a rule" "$(stat $M/never 2>&1 | grep -c 'Permission denied')" 1
ok "O_DIRECT read of an open file without a rule" not dd if=/dev/fd/5 of=/dev/null iflag=direct
ok "write without a rule" not dd if=/dev/zero of=$M/from1 bs=4k count=1 conv=notrunc,fsync
ok "rule given again" trinas allow $NET --squash none
is "the mount goes on" "$(cat $M/from1)" "by n1"
exec 5<&-

ok "read-only for this host" trinas allow "$ME" --read-only --squash none
is "exported to both" "$(exported "$NODE1" | tr ',' ' ')" "$ME $NET"
is "read" "$(cat $M/from2)" "by n2"
for what in "touch $M/new" "mkdir $M/newdir" "rm $M/from2" "mv $M/from2 $M/x" "ln $M/from2 $M/x" "chmod 600 $M/from2"; do
    is "read-only: ${what%% *}" "$($what 2>&1 | grep -c 'Read-only file system')" 1
done
# The client asks ACCESS before it opens a file for writing, and refuses by itself (EACCES).
is "read-only: open for writing" "$(truncate -s 0 $M/from2 2>&1 | grep -c 'Permission denied')" 1
ok "nothing changed" [ "$(cat $M/from2)" = "by n2" -a ! -e $M/new -a ! -e $M/x ]

ok "root squashed for this host" trinas allow "$ME"
ok "root's own folder" not touch $M/new
ok "anybody's folder" touch $M/open/root
is "root became nobody" "$(owner $M/open/root)" 65534:65534
ok "chown refused" not chown 1000 $M/open/root
ok "a user writes" as_user touch $M/open/user
is "a user stays a user" "$(owner $M/open/user)" 1000:1000
ok "all squashed for this host" trinas allow "$ME" --squash all
ok "a user writes as nobody" as_user touch $M/open/all
is "a user became nobody" "$(owner $M/open/all)" 65534:65534
ok "only the network's rule left" trinas deny "$ME"
ok "root is root again" chown 1000:1000 $M/open/all
ok "umount" umount $M

# Without the reserved ports that root alone has.
is "mount from a high port" "$(timeout 20 mount -t nfs -o vers=3,nolock,retry=0,noresvport "$NODE1:/$VOLUME" $M 2>&1 | wc -l)" 1
ok "is not mounted" not mountpoint -q $M
exit $failed
