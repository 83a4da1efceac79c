#!/bin/sh
# aptrepo.sh OUT DEB...: makes an apt repository of these packages in the folder OUT, in place of
# whatever is there: suite "stable", component "main", signed. OUT/trinas.sources is what a machine
# that has the folder at the same path needs in /etc/apt/sources.list.d; OUT/trinas.gpg is the key.
#
# The key is the first one in GNUPGHOME; a new one is made when there is none. Without GNUPGHOME the
# key is for this run alone, which is right for tests only.
set -eu
out=$1
shift

if [ -z "${GNUPGHOME:-}" ]; then
    GNUPGHOME=$(mktemp -d)
    export GNUPGHOME
    trap 'gpgconf --kill all; rm -rf "$GNUPGHOME"' EXIT
    trap 'exit 1' HUP INT TERM
fi
if [ -z "$(gpg --batch --list-secret-keys 2>/dev/null)" ]; then
    gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
        --quick-generate-key 'trinas test repository <maintainers@trinas.invalid>' ed25519 sign never
fi

# The folder itself stays: a machine may have it mounted.
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -rf "$out"/*
mkdir "$out/pool"
cp "$@" "$out/pool"
cd "$out"
for arch in amd64 arm64; do
    mkdir -p "dists/stable/main/binary-$arch"
    apt-ftparchive --arch "$arch" packages pool >"dists/stable/main/binary-$arch/Packages"
done
apt-ftparchive -o APT::FTPArchive::Release::Origin=trinas \
    -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
    -o APT::FTPArchive::Release::Architectures='amd64 arm64' \
    -o APT::FTPArchive::Release::Components=main release dists/stable >Release
mv Release dists/stable/Release
gpg --batch --quiet --yes --clearsign -o dists/stable/InRelease dists/stable/Release
gpg --batch --quiet --yes --detach-sign --armor -o dists/stable/Release.gpg dists/stable/Release
gpg --batch --quiet --export >trinas.gpg
cat >trinas.sources <<EOF
Types: deb
URIs: file:$out
Suites: stable
Components: main
Signed-By: $out/trinas.gpg
EOF
echo "repository: $out"
