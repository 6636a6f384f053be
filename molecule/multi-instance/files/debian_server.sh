#!/bin/sh
# Packs the server of the distribution's package into /root/redis.tar.gz, and installs what it needs, but not itself.
set -eu
cd "$(mktemp -d)"
apt-get -qq update
apt-get -qq download redis-tools
dpkg -x redis-tools_*.deb root
mkdir bin
# One program, which looks at its own name to know what it is.
cp root/usr/bin/redis-check-rdb bin/redis-server
cp root/usr/bin/redis-cli bin/
tar -czf /root/redis.tar.gz bin
DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends satisfy \
    "$(dpkg-deb --field redis-tools_*.deb Depends)"
