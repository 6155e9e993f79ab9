#!/usr/bin/env bash
# The C++ compiler that setup.sh gives to onedl-mmcv's build: it parses PyTorch's headers once, not once a file.
#
# The headers are most of what each of the 78 files costs: precompiled, a file takes 2 to 4 seconds instead of 12 to 15.
# Reads UNMASK_CXX, the compiler itself, and UNMASK_HEADERS, a folder to keep the headers in while the build runs.
set -euo pipefail

flags=()
compiles=
arguments=("$@")
for ((at = 0; at < $#; at++)); do
    case ${arguments[at]} in
    -c) compiles=yes ;;
    -o | -MF) at=$((at + 1)) ;;
    -MMD | *.cpp) ;;
    *) flags+=("${arguments[at]}") ;;
    esac
done
if [ -z "$compiles" ] || [[ "$*" != *torch/include* ]]; then
    exec "$UNMASK_CXX" "$@"
fi

header=$UNMASK_HEADERS/$(printf '%s\n' "${flags[@]}" | sha256sum | cut -c1-12).h
{
    flock 9 # the first of the parallel jobs makes it, the others wait
    if [ ! -e "$header" ]; then
        echo '#include <torch/types.h>' >"$header"
        # Where this fails, the header is read as it stands.
        "$UNMASK_CXX" "${flags[@]}" -x c++-header "$header" -o "$header.gch" >&2 || rm -f "$header.gch"
    fi
} 9>"$UNMASK_HEADERS/lock"
exec "$UNMASK_CXX" -include "$header" "$@"
