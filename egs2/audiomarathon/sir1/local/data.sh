#!/usr/bin/env bash
# Data directories audiomarathon_scr and audiomarathon_ser from the benchmark.
set -e
set -u
set -o pipefail

# Options
tasks="scr ser" # Tasks of the benchmark, see `espnet-prune corpus audiomarathon --help`.
items=          # (whole number) How many questions of each; all when empty.
suffix=         # Of "audiomarathon" in the names of the data directories.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of AUDIOMARATHON "the directory below which AudioMarathon was unpacked"
wanted=()
words wanted "${tasks}"
python3 -m espnet_prune corpus audiomarathon "${AUDIOMARATHON}" "${datadir}" --tasks "${wanted[@]}" \
    --prefix "audiomarathon${suffix}" --nj "${nj}" ${items:+--first "${items}"}
