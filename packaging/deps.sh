#!/bin/sh
# deps.sh PACKAGE...: installs the Debian packages of the list that are missing, as root or by sudo.
#
# No service is started or enabled by it: make bench wants nfs-ganesha's and rpcbind's programs, and
# their services would take ports 2049 and 111 of the machine. Services of packages that were there
# before are left alone.
set -eu

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1; then
    sudo=sudo
else
    echo "missing packages:$missing" >&2
    echo "install them as root, then run make again: apt-get install$missing" >&2
    exit 1
fi

rpcbind_was_here=no
installed rpcbind && rpcbind_was_here=yes

# policy-rc.d is how Debian asks "may this service start now?" while packages are installed
# (invoke-rc.d(8)); 101 says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$sudo rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
fi

install() {
    # shellcheck disable=SC2086 # one word per package
    $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get -y -qq -o DPkg::Lock::Timeout=60 --no-install-recommends install $missing
}

echo "installing:$missing"
if ! install </dev/null; then
    $sudo apt-get -qq update
    if ! install </dev/null; then
        echo "cannot install:$missing; the lines above say why" >&2
        exit 1
    fi
fi

# Nor shall they start at the next boot.
if [ -d /run/systemd/system ]; then
    case "$missing " in *" nfs-ganesha "*)
        $sudo systemctl disable -q nfs-ganesha.service nfs-ganesha-lock.service ;;
    esac
    case "$missing " in *" prometheus "*)
        $sudo systemctl disable -q prometheus.service ;;
    esac
    if [ "$rpcbind_was_here" = no ] && installed rpcbind; then
        $sudo systemctl disable -q rpcbind.service rpcbind.socket
    fi
fi
