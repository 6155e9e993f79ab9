#!/usr/bin/env bash
# The environment .venv, exactly as envs/requirements.lock says. Run again, it does nothing until the lock changes.
#
# Needs Python 3.11 or 3.12 (PYTHON names another than python3) and a C++ compiler, for onedl-mmcv, which has no
# wheel. uv is taken from PATH, or from pip into work/uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock=envs/requirements.lock
stamp=.venv/lock.sha256
python=${PYTHON:-python3}
oldest_uv=0.9.0 # older ones may ignore extra-build-variables, and then the compile fails

fail() {
    echo "setup: $1" >&2
    exit 1
}

wanted=$(sha256sum "$lock" | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "$python does not run; expected Python 3.11 or 3.12. Name one: PYTHON=/path/to/python3.11 make setup"
case $version in
3.11 | 3.12) ;;
*) fail "$python is Python $version; expected 3.11 or 3.12. Name one: PYTHON=/path/to/python3.11 make setup" ;;
esac
command -v "${CXX:-c++}" >/dev/null ||
    fail "no C++ compiler; onedl-mmcv is compiled here. On Debian or Ubuntu: apt-get install build-essential python3-dev"
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
[ -f "$header" ] || fail "$header is missing; onedl-mmcv is compiled here. On Debian or Ubuntu: apt-get install python3-dev"

uv=$(command -v uv || true)
have=$([ -z "$uv" ] || "$uv" --version | cut -d' ' -f2)
if [ -z "$have" ] || [ "$(printf '%s\n' "$oldest_uv" "$have" | sort -V | head -n 1)" != "$oldest_uv" ]; then
    uv=work/uv/bin/uv
    if [ ! -x "$uv" ]; then
        echo "setup: uv ${have:-is absent}${have:+ is older than $oldest_uv}; taking it from pip into work/uv"
        "$python" -m venv work/uv || fail "no venv module. On Debian or Ubuntu: apt-get install python3-venv"
        work/uv/bin/pip install --quiet "uv>=$oldest_uv"
    fi
fi

[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
rm -f "$stamp" # an interrupted sync is no environment
echo "setup: installing $lock into .venv (some minutes the first time: onedl-mmcv is compiled)"
export MAX_JOBS=${MAX_JOBS:-$(nproc)}
cxx=${CXX:-c++}
if "$cxx" --version | grep -q 'Free Software Foundation' && command -v flock >/dev/null; then
    headers=$(mktemp -d)
    trap 'rm -rf "$headers"' EXIT
    export CXX=$PWD/envs/cxx.sh UNMASK_CXX=$cxx UNMASK_HEADERS=$headers
fi
# Compiled once for all: where PYTHONDONTWRITEBYTECODE is set, each of a study's processes would compile 3,000 files.
"$uv" pip sync --python .venv/bin/python --require-hashes --compile-bytecode "$lock"
echo "$wanted" >"$stamp"
