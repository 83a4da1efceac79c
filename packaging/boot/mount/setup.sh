# setup.sh: what both trials of the plugin's mount begin with: this package is installed in a guest that has booted Debian, its agent is
# a cluster of one with the volume "vms", and a service calls the plugin as pvestatd does, so that the volume is mounted.
. ./checks.sh
M=/mnt/pve/vms
unit=mnt-pve-vms.mount
property() { systemctl show -P "$1" "${2:-$unit}"; }
mount_id() { awk -v at=$M '$5 == at { print $1 }' /proc/self/mountinfo; }
# until_ok COMMAND...: waits until the command succeeds.
until_ok() {
    for _ in $(seq 150); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    "$@"
}
mounted() { [ -n "$(mount_id)" ]; }

ok "systemd is the first process" [ "$(cat /proc/1/comm)" = systemd ]
ok "the package installs" dpkg -i trinas.deb
ok "the agent runs" systemctl is-active trinas.service
printf '[peer]\nadvertise = "127.0.0.1:7370"\n' >/etc/trinas/trinas.toml # the guest has no network
systemctl restart trinas
ok "a cluster of one" trinas init --name alone
ok "a volume" trinas volume create vms --replicas 1

# Whoever calls the plugin is a service, as pvestatd is.
cat >/run/systemd/system/pvestatd.service <<END
[Service]
ExecStart=/usr/bin/perl /guest/storage.pl serve
END
systemctl daemon-reload
ok "pvestatd" systemctl start pvestatd
ok "mounted" until_ok mounted
mounted || { journalctl -u trinas -u pvestatd -u $unit | tail -n 20; exit 1; }
