#!/usr/bin/env bash
# Install the programs that tests run beside Python where they are not and Debian's may be installed. Without them a test uses a
# stand-in that is labelled as one, or says NOT CHECKED.
set -euo pipefail
missing=()
for name in age zstd; do
    command -v "$name" >/dev/null || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "tools: there is no ${missing[*]} here, and it cannot be installed without root and apt" >&2
    exit 0
fi
printf '\033[1m==>\033[0m installing %s\n' "${missing[*]}"
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null
