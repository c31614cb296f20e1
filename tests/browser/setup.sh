#!/usr/bin/env bash
# Install Chromium where there is none and Debian's may be installed. Without one the browser's tests fail in CI, and are
# skipped elsewhere.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "browser: there is no Chromium here, and it cannot be installed without root and apt" >&2
    exit 0
fi
printf '\033[1m==>\033[0m installing chromium\n'
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends chromium fonts-dejavu-core >/dev/null
