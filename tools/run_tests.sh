#!/usr/bin/env bash
# Lint and test everything, in the environment that tools/install.py makes.
# usage: tools/run_tests.sh [arguments for pytest]
#   tools/run_tests.sh -m "not recipe"     without the recipes, which take minutes
set -e -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python3 tools/install.py
export PATH="${PWD}/tools/venv/bin:${PATH}"

echo "ruff:"
ruff check .
lint-imports
echo "shellcheck:" # run.pl and slurm.pl are bash under Kaldi's names
shopt -s nullglob
shellcheck --external-sources --source-path=SCRIPTDIR \
    .ci/run tools/*.sh egs2/*/*/*.sh egs2/*/*/*.pl egs2/*/*/local/*.sh \
    egs2/TEMPLATE/superb1/superb_tasks/*.sh
echo "All checks passed!"

# Two workers, each with one thread: most of a test's time is single-threaded, and each worker pays
# ESPnet's slow import once. A file stays in one worker, so that its fixtures are made once.
export OMP_NUM_THREADS=1
python3 -m pytest -n 2 --dist loadfile "$@"
