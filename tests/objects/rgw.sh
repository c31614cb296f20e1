#!/usr/bin/env bash
# Install Ceph's RADOS Gateway where it is not and Debian's may be installed. The tests fail without it: nothing is skipped.
set -euo pipefail
missing=()
for name in ceph-mon ceph-osd ceph-mgr radosgw; do
    command -v "$name" >/dev/null || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "rgw: there is no ${missing[*]} here, and it cannot be installed without root and apt" >&2
    exit 1
fi
printf '\033[1m==>\033[0m installing %s\n' "${missing[*]}"
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null
