# trial.sh: the plugin's mount under a real systemd with a real Linux NFS client. Runs in a guest that has booted
# Debian; packaging/boot/mount.go reads what it prints.
. ./setup.sh
storage() { perl /guest/storage.pl "$@"; }
has() { case $1 in *"$2"*) ;; *) false ;; esac; }
# says WANT COMMAND...: passes when the command fails and says WANT.
says() {
    local want=$1 said
    shift
    said=$("$@" 2>&1) && { echo "it did not fail: $said"; return 1; }
    echo "$said"
    has "$said" "$want"
}

echo "= $(grep " $M " /proc/self/mounts)"
is "by NFS from this node's agent" "$(awk -v at=$M '$2 == at { print $1, $3 }' /proc/self/mounts)" "127.0.0.1:/vms nfs"
options=,$(awk -v at=$M '$2 == at { print $4 }' /proc/self/mounts),
for option in vers=3 hard proto=tcp port=2049 mountport=2049; do ok "option $option" has "$options" ",$option,"; done
ok "no locks over the network" has "$options" ",local_lock=all,"
is "a unit of its own" "$(property ActiveState) $(property ControlGroup | sed 's/.*\///')" "active $unit"
ok "after the agent, so that it is gone before it at shutdown" has " $(property After) " " trinas.service "
is "not bound to the agent" "$(property Requires | tr ' ' '\n' | grep -c trinas)$(property BindsTo)" 0
is "systemd's time limit" "$(property TimeoutUSec)" 15s
ok "a file" dd if=/dev/urandom of=$M/images/a bs=64k count=16 conv=fsync
sum=$(sha256sum <$M/images/a)
id=$(mount_id)

systemctl restart pvestatd
ok "pvestatd is restarted" systemctl is-active pvestatd
is "the mount is the same" "$(mount_id) $(property ActiveState)" "$id active"
systemctl kill -s KILL pvestatd
systemctl reset-failed pvestatd
is "and after pvestatd was killed" "$(mount_id) $(property ActiveState)" "$id active"

(while [ ! -e /tmp/enough ]; do dd if=/dev/zero of=$M/images/b bs=4k count=1 conv=fsync || exit; done 2>/tmp/writer.err) &
writer=$!
agent=$(property MainPID trinas)
ok "the agent is restarted under a writer" systemctl restart trinas
ok "it is another process" [ "$(property MainPID trinas)" != "$agent" ]
is "the mount is the same still" "$(mount_id) $(property ActiveState)" "$id active"
ok "a file after it" dd if=/dev/zero of=$M/images/c bs=4k count=1 conv=fsync
touch /tmp/enough
ok "the writer saw no error" wait $writer
echo 3 >/proc/sys/vm/drop_caches
is "what was written is there" "$(sha256sum <$M/images/a)" "$sum"

mkdir -p /mnt/under
mount --bind / /mnt/under
ok "under the mount nothing can be written" says "Operation not permitted" touch /mnt/under$M/x
is "by root neither, since it is immutable" "$(lsattr -d /mnt/under$M | cut -c 5)" i
is "activated again it is mounted once" "$(storage activate_storage) $(grep -c " $M " /proc/self/mounts)" "1 1"

(cd $M && exec sleep 1000) &
sleeper=$!
until_ok [ "$(readlink /proc/$sleeper/cwd)" = $M ]
ok "while it is used it is not unmounted" says "cannot deactivate storage 'vms': unmount '$M'" storage deactivate_storage
is "and still mounted" "$(mount_id)" "$id"
ok "a file then" dd if=/dev/zero of=$M/images/d bs=4k count=1 conv=fsync
is "lazily it is" "$(OPTIONS=lazy-unmount storage deactivate_storage)" 1
ok "not to be seen any more" not mounted
kill $sleeper
wait $sleeper 2>/dev/null
is "activated anew" "$(storage activate_storage)" 1
ok "mounted anew" mounted
is "deactivated" "$(storage deactivate_storage)" 1
ok "not mounted" not mounted
is "no unit left" "$(property ActiveState)" inactive
is "deactivated twice" "$(storage deactivate_storage)" 1
ok "its place stays closed" says "Operation not permitted" touch $M/x
is "activated last" "$(storage activate_storage)" 1
storage on_delete_hook
ok "when the storage is deleted its place goes" [ ! -e $M ]
is "kernel log" "$(kernel_errors | grep -v systemd)" ""
exit $failed
