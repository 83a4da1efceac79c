#!/bin/sh
# kernel.sh FOLDER: makes FOLDER with Debian's kernel for virtual machines (vmlinuz, lib/modules), which
# the scenario with a QEMU guest boots.
#
# The package is unpacked and not installed: a kernel that is installed is what this machine would boot
# the next time.
set -eu

PATH=$PATH:/usr/sbin:/sbin # depmod
folder=$1
meta=linux-image-cloud-amd64
if [ "$(dpkg --print-architecture)" != amd64 ]; then
    echo "left out: a kernel for scenario vm, which is for amd64 only" >&2
    exit 0
fi

# The package that the meta package of today depends on.
package() { apt-cache depends "$meta" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
download() {
    # As root apt would fetch as another user, who cannot write here.
    (cd "$work" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$(package)")
}

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! download; then
    echo "cannot download $meta: run apt-get update as root, then make again" >&2
    exit 1
fi
dpkg -x "$work"/linux-image-*.deb "$work/unpacked"
version=$(ls "$work/unpacked/lib/modules")
find "$work/unpacked/lib/modules" -name '*.ko.xz' -exec xz -d {} +
depmod -b "$work/unpacked" "$version"
mv "$work/unpacked/boot/vmlinuz-$version" "$work/unpacked/vmlinuz"
chmod 755 "$work/unpacked"
mv "$work/unpacked" "$folder"
