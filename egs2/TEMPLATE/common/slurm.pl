#!/usr/bin/env bash
# Kaldi's job interface, kept under the name that ESPnet's scripts look for; --help tells more.
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../.." && pwd)
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} \
    exec python3 -m espnet_prune.launch.jobs --backend slurm "$@"
