#!/bin/sh
# deb.sh [ARCH [VERSION]]: builds the Debian package for ARCH (amd64 or arm64; default: this machine's)
# into build/deb, and checks it: lintian, the units, their sandbox. VERSION takes the place of the
# changelog's: make boot needs a newer package to upgrade to.
#
# Works on a copy of the sources, because dpkg-buildpackage writes beside and into what it builds.
# Only "go mod download" uses the network. SOURCE_DATE_EPOCH is the changelog's date unless set.
set -eu
cd "$(dirname "$0")/.."
arch=${1:-$(dpkg --print-architecture)}
version=${2:-$(dpkg-parsechangelog -S Version)}
out=$PWD/build/deb
src=$out/source-$arch

go mod download

rm -rf "$src"
mkdir -p "$src"
trap 'rm -rf "$src"' EXIT
trap 'exit 1' HUP INT TERM
tar -c --exclude=./build --exclude=./.git --exclude=./packaging/e2e/out . | tar -x -C "$src"

sed -i "1s/(.*)/($version)/" "$src/debian/changelog"
# The results go to the folder above the sources: $out.
(cd "$src" && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -b -us -uc -a "$arch")

changes=$out/trinas_${version}_$arch.changes
lintian --allow-root --fail-on error,warning "$changes"

dpkg-deb -x "$out/trinas_${version}_$arch.deb" "$src/root"
units=$src/root/lib/systemd/system
# The program is not installed here; whatever else systemd says about the units is an error.
if systemd-analyze verify --man=no "$units/trinas.service" "$units/trinas.socket" "$units/trinas-unmount.service" 2>&1 |
    grep trinas | grep -v 'Command /usr/\(bin/trinas\|libexec/trinas/unmount\) is not executable'; then
    exit 1
fi
# The threshold is ten times the exposure.
if ! systemd-analyze security --offline=true --threshold=29 --no-pager "$units/trinas.service" >"$src/exposure"; then
    cat "$src/exposure"
    exit 1
fi
tail -1 "$src/exposure"
installed=$(du -sk --apparent-size "$src/root" | cut -f 1)
echo "installed: $((installed / 1024)) MiB of 25"
[ "$installed" -le $((25 * 1024)) ]
ls -l "$out/trinas_${version}_$arch.deb"
