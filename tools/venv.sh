#!/bin/sh
# Makes .venv with the first Python >= 3.11 found and installs this checkout into it, with the extras named.
# Usage: tools/venv.sh [extra,...]      pip uses the machine's own configuration.
set -eu
cd "$(dirname "$0")/.."

if ! .venv/bin/python -c '' 2>/dev/null; then
    remedy='No Python 3.11 or later found. Debian 12, Ubuntu 24.04 and later have one: apt-get install python3-venv'
    for python in python3.13 python3.12 python3.11 python3 ''; do
        [ -n "$python" ] || { echo "$remedy" >&2; exit 1; }
        # The name alone proves nothing: it may be a shim with nothing behind it, or lack the venv module.
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$python" -c 'import ensurepip, venv' 2>/dev/null && break
            remedy="$(command -v "$python") lacks the venv module. Debian, Ubuntu: apt-get install python3-venv"
        fi
    done
    rm -rf .venv
    "$python" -m venv .venv
fi

echo "Installing into .venv with $(.venv/bin/python --version) ..."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${1:+[$1]}"
