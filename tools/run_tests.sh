#!/usr/bin/env bash
# Check and test everything, in the environment that tools/install.py makes.
# usage: tools/run_tests.sh [--lint_only] [arguments for pytest]
#   tools/run_tests.sh --lint_only         lint, the import contract, types and docs; no tests
#   tools/run_tests.sh -m "not recipe"     without the recipes, which take minutes
set -e -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lint_only=false
if [ "${1:-}" = --lint_only ]; then
    lint_only=true
    shift
fi

python3 tools/install.py
export PATH="${PWD}/tools/venv/bin:${PATH}"

echo "ruff:"
ruff check .
ruff format --check --quiet .
echo "import contract:"
lint-imports
echo "types:"
mypy
echo "shellcheck:" # run.pl and slurm.pl are bash under Kaldi's names
shopt -s nullglob
shellcheck --external-sources --source-path=SCRIPTDIR \
    .ci/run tools/*.sh egs2/*/*/*.sh egs2/*/*/*.pl egs2/*/*/local/*.sh \
    egs2/TEMPLATE/superb1/superb_tasks/*.sh
echo "docs:"
site=$(mktemp -d)
trap 'rm -rf "${site}"' EXIT
mkdocs build --strict --site-dir "${site}" 2>&1 | grep -v "^INFO" || [ "${PIPESTATUS[0]}" = 0 ]
echo "All checks passed!"
if "${lint_only}"; then
    exit 0
fi

# Two workers, each with one thread: most of a test's time is single-threaded, and each worker pays
# ESPnet's slow import once. A file stays in one worker, so that its fixtures are made once. Files go
# in the order of test/conftest.py, not those with the most tests first.
export OMP_NUM_THREADS=1
python3 -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 "$@"
