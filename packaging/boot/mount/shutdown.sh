# shutdown.sh CASE: a whole shutdown while the plugin's mount is in use. Runs in a guest that has booted Debian, which is powered
# off afterwards; packaging/boot/shutdown.go reads what it and last.sh print. CASE is what still uses the mount then:
#   guest   what Proxmox stops first: a writer in a scope that systemd does not kill, as QEMU's are
#   stray   a writer that nobody stops and that ignores SIGTERM
. ./setup.sh
S=/run/systemd/system
# Proxmox's service is ordered after its storage, and that after remote-fs.target, which is what the mount is ordered by.
cat >$S/pve-storage.target <<END
[Unit]
Wants=remote-fs.target
After=remote-fs.target
END
cat >$S/pve-guests.service <<END
[Unit]
Wants=pve-storage.target
After=pve-storage.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true
ExecStop=bash -c 'touch /tmp/enough; while [ -e /tmp/writes ]; do sleep 0.1; done; exec dd if=/dev/zero of=$M/images/e bs=4k count=1 conv=fsync'
END
# What runs last is on the system's own disk: the shared folder is unmounted by then.
mkdir -p /usr/local/lib/trial
cp checks.sh last.sh /usr/local/lib/trial
cat >$S/lab-last.service <<END
[Unit]
DefaultDependencies=no
After=umount.target trinas.service trinas.socket
Before=final.target
[Service]
Type=oneshot
WorkingDirectory=/usr/local/lib/trial
ExecStart=bash last.sh $1
END
mkdir $S/final.target.wants
ln -s ../lab-last.service $S/final.target.wants
systemctl daemon-reload
ok "Proxmox's guests are started" systemctl start pve-guests

case $1 in
guest) writer="touch /tmp/writes; while [ ! -e /tmp/enough ]; do dd if=/dev/zero of=$M/images/b bs=64k count=16 conv=fsync || exit; done; rm /tmp/writes" ;;
stray) writer="trap '' TERM; cd $M; exec >images/b; while :; do dd if=/dev/zero bs=64k count=16; sleep 0.2; done" ;;
esac
systemd-run --quiet --scope --slice=qemu --unit=writer -p KillMode=none bash -c "$writer" >/dev/null 2>&1 &
ok "a writer" until_ok [ -s $M/images/b ]
exit $failed
