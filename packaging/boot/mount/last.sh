# last.sh CASE: run by the guest's systemd when every unit has been stopped, before systemd-shutdown ends and unmounts
# what is left.
. ./checks.sh >/dev/null
exec >/dev/ttyS0
is "nothing is left of the mount" "$(grep ' nfs ' /proc/self/mounts)" ""
case $1 in
guest) want="Stopped pve-guests.service Unmounted mnt-pve-vms.mount Stopped trinas-unmount.service Stopped trinas.service Closed trinas.socket " ;;
stray) want="Stopped pve-guests.service Stopped trinas-unmount.service Stopped trinas.service Closed trinas.socket " ;;
esac
journalctl --sync
is "guests stop first, then the mount, the agent last" "$(journalctl -b -o cat _PID=1 |
    grep -oE '^(Stopped|Unmounted|Closed) (pve-guests|mnt-pve-vms|trinas-unmount|trinas)\.(service|mount|socket)' | tail -n "$(($(wc -w <<<"$want") / 2))" | tr '\n' ' ')" "$want"
is "guests can write until they have gone" "$(systemctl show -P Result pve-guests)" success
