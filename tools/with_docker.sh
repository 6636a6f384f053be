#!/bin/sh
# Runs a command that needs Docker and base images: installs what is missing, and where no Docker daemon answers, starts
# one for as long as the command runs. That one makes no network of its own and no firewall rule: all containers of the
# tests are in the machine's own network, at loopback addresses.
# Usage: tools/with_docker.sh COMMAND [ARGUMENT...]
set -eu
here=$(dirname "$0")

missing=
command -v mmdebstrap >/dev/null || [ -n "${SLOTWRIGHT_IMAGE:-}" ] || missing="mmdebstrap debian-archive-keyring"
if ! command -v docker >/dev/null || { ! docker info >/dev/null 2>&1 && ! command -v dockerd >/dev/null; }; then
    missing="$missing docker.io"
fi
# shellcheck disable=SC2086
[ -z "$missing" ] || "$here/apt_install.sh" $missing
# From Debian 13 on, the command is in a package of its own.
command -v docker >/dev/null || "$here/apt_install.sh" docker-cli

if docker info >/dev/null 2>&1; then
    exec "$@"
fi
[ "$(id -u)" -eq 0 ] || { echo "No Docker daemon lets you in, and only root may start one." >&2; exit 1; }
log=$(mktemp /tmp/slotwright-dockerd.XXXXXX)
dockerd --bridge=none --iptables=false --ip-forward=false >"$log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon || :; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
tries=60
until docker info >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ $tries -eq 0 ] || ! kill -0 $daemon 2>/dev/null; then
        echo "dockerd does not answer after 30 s, or ended. It said:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    sleep 0.5
done
"$@"
