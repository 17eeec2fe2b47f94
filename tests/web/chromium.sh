#!/bin/sh
# Installs Debian's Chromium and its driver where they are missing and this account may; called by make test-web.
# Ends well in any case: without them the tests are skipped, and say so.
set -eu

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then exit 0; fi

export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends chromium chromium-driver </dev/null >/dev/null 2>&1; }
echo "test-web: installing Debian's chromium and chromium-driver"
install || { apt-get update -qq >/dev/null 2>&1 && install; } ||
    echo "test-web: that did not work; to see why: apt-get install chromium chromium-driver"
