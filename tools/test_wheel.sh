#!/usr/bin/env bash
# Test the wheel as a stranger meets it: built from a clean clone, installed into a fresh environment,
# and used in an empty directory without the repository.
# usage: tools/test_wheel.sh [directory]
# Needs uv (on PATH, or the one that tools/install.py fetched) and about 8 GB in the directory, by
# default a new one in TMPDIR, which is removed at the end. The extras are not installed.
set -e -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=${PATH}:${root}/tools/.uv/bin
command -v uv > /dev/null || {
    echo "error: uv is not found; install it (pip install uv) or run python3 tools/install.py" >&2
    exit 1
}
as_installer() { # Run a command with the index and certificates that tools/install.py has.
    python3 -c "import os, sys
sys.path.insert(0, '${root}')
from espnet_prune.hub import clients
env = clients.client_environment(os.environ, clients.own_settings(os.environ))
os.execvpe(sys.argv[1], sys.argv[1:], env)" "$@"
}

if [ $# -gt 0 ]; then
    mkdir -p "$1"
    work=$(cd "$1" && pwd)
else
    work=$(mktemp -d)
    trap 'rm -rf "${work}"' EXIT
fi

echo "=== build"
rm -rf "${work}/clone" "${work}/dist" "${work}/empty"
git clone --quiet --no-hardlinks "${root}" "${work}/clone"
as_installer uv venv --quiet --clear "${work}/builder"
as_installer uv pip install --quiet --python "${work}/builder/bin/python" build twine
as_installer "${work}/builder/bin/python" -m build --outdir "${work}/dist" "${work}/clone" \
    > "${work}/build.log"
"${work}/builder/bin/python" -m twine check --strict "${work}"/dist/*

echo "=== install"
as_installer uv venv --quiet --clear "${work}/fresh"
python=${work}/fresh/bin/python
options=(--overrides "${root}/tools/overrides.txt")
if "${python}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    options+=(--constraints "${root}/tools/constraints.txt")
fi
as_installer uv pip install --quiet --python "${python}" "${options[@]}" "${work}"/dist/*.whl

echo "=== use"
mkdir "${work}/empty"
cd "${work}/empty"
export PATH=${work}/fresh/bin:${PATH} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
unset PYTHONPATH
"${python}" -c "
import espnet_prune
assert '${work}/fresh' in espnet_prune.__file__, espnet_prune.__file__"
espnet-prune --help > help.txt
espnet-prune env
"${python}" "${root}/tools/try_wheel.py"
echo "=== the wheel works"
