# Environment of a recipe: `. template/common/path.sh` in its own directory, egs2/<corpus>/<task>.
# shellcheck shell=bash

MAIN_ROOT=$(cd ../../.. && pwd)
if [ ! -f "${MAIN_ROOT}/espnet_prune/__init__.py" ]; then
    echo "error: ${PWD}: not a recipe's directory; run it from egs2/<corpus>/<task>" >&2
    return 1
fi

# An active environment that has ESPnet is used as it is, else tools/venv.
python3 "${MAIN_ROOT}/tools/install.py" --active >&2 && active=0 || active=$?
if [ "${active}" -eq 3 ]; then
    python3 "${MAIN_ROOT}/tools/install.py" >&2 || return 1
    PATH="${MAIN_ROOT}/tools/venv/bin:${PATH}"
elif [ "${active}" -ne 0 ]; then
    return 1
fi
export MAIN_ROOT PATH
export PYTHONPATH="${MAIN_ROOT}${PYTHONPATH:+:${PYTHONPATH}}"
export PYTHONIOENCODING=UTF-8
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"

# With glibc's defaults every large activation is mapped anew from the kernel and given back, which
# takes half of the time of training on CPUs: keep freed memory in the process instead.
export MALLOC_MMAP_MAX_="${MALLOC_MMAP_MAX_:-0}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-17179869184}"
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}"

# What ends a recipe ends all that it has started.
if [ -n "${command_line:-}" ] && [ -z "${supervised:-}" ]; then
    export supervised=true
    exec python3 -m espnet_prune.launch.supervise "$0" "$@"
fi
