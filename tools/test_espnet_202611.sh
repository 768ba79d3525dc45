#!/usr/bin/env bash
# Run the unit tests and the recipes of egs3 with ESPnet 202611 on Python 3.13: in a Debian trixie made
# by debootstrap, with nothing but python3, where tools/install.py makes the environment as on a fresh
# machine.
# usage: sudo tools/test_espnet_202611.sh <work directory> [arguments for pytest]
# Takes 8 GB in the work directory and about five minutes before the tests; a second run goes on
# with what is there.
set -e -u -o pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

[ $# -ge 1 ] || fail "usage: tools/test_espnet_202611.sh <work directory> [arguments for pytest]"
[ "$(id -u)" = 0 ] || fail "debootstrap and chroot need root; run this script with sudo"
command -v debootstrap > /dev/null || fail "debootstrap not found; install it: apt-get install debootstrap"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
trixie=${work}/trixie
repository=${trixie}/srv/main

if [ ! -d "${trixie}" ]; then
    rm -rf "${trixie}.part"
    debootstrap --variant=minbase --include=python3,ca-certificates trixie "${trixie}.part"
    mv "${trixie}.part" "${trixie}"
fi
# the host's name service, and its certificates where its network has its own
cp /etc/resolv.conf "${trixie}/etc/resolv.conf"
cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "${trixie}/etc/ssl/certs/ca-certificates.crt"

# A copy of the working tree as it is, without what was built in it; the chroot's own environment
# stays. ../shared, the developers' data, goes with it where it is.
mkdir -p "${repository}"
find "${repository}" -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf {} +
tar -C "${root}" --exclude-vcs --exclude=./tools/venv --exclude='./tools/.*' \
    --wildcards --no-wildcards-match-slash --exclude='./egs[23]/*/*/data' \
    --exclude='./egs[23]/*/*/downloads' --exclude='./egs2/*/*/dump*' --exclude='./egs[23]/*/*/exp*' \
    -cf - . | tar -C "${repository}" -xf -
if [ -d "${root}/../shared" ]; then
    rm -rf "${trixie}/srv/shared"
    cp -r "${root}/../shared" "${trixie}/srv/shared"
fi

unmount() {
    for place in dev/shm proc; do
        if mountpoint -q "${trixie}/${place}"; then
            umount "${trixie}/${place}"
        fi
    done
}
trap unmount EXIT
unmount
mount -t proc proc "${trixie}/proc"
mount -t tmpfs tmpfs "${trixie}/dev/shm" # PyTorch's loaders share memory through it

inside=(env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy PIP_INDEX_URL; do
    if [ -n "${!name:-}" ]; then
        inside+=("${name}=${!name}")
    fi
done
chroot "${trixie}" "${inside[@]}" python3 /srv/main/tools/install.py
chroot "${trixie}" "${inside[@]}" /srv/main/tools/venv/bin/python -c \
    'import espnet, sys; print("ESPnet", espnet.__version__, "on Python", sys.version.split()[0])'
chroot "${trixie}" "${inside[@]}" OMP_NUM_THREADS=1 sh -c \
    'cd /srv/main && exec tools/venv/bin/python -m pytest -n 2 --dist loadfile -m "not recipe" "$@"' sh "$@"
chroot "${trixie}" "${inside[@]}" \
    sh -c 'cd /srv/main && exec tools/venv/bin/python -m pytest test/recipes/test_egs3.py'
