#!/bin/sh
# Installs packages on Debian or Ubuntu as root, and starts none of their services: the tests run processes of their own.
# Usage: tools/apt_install.sh PACKAGE...
set -eu
command -v apt-get >/dev/null || { echo "This is not Debian or Ubuntu. Install yourself: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "Only root may install: apt-get install $*" >&2; exit 1; }

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
echo "Installing: $*" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o Acquire::Retries=3 update >&2
apt-get -qq -o Acquire::Retries=3 install --yes --no-install-recommends "$@" >/dev/null
