#!/usr/bin/env bash
# Speaks the items of this recipe into data/mini_spiral.
set -e
set -u
set -o pipefail

nj=1      # Parallel jobs.
voices= # Of Flite (slt awb rms kal) and eSpeak NG (en-us+f2); "" takes those kept for evaluation.
items=    # How many of the items ("": all).
name=mini_spiral # Of the data directory.

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh

python3 -m espnet_prune.bin.sir_data --items items/*.jsonl --output_dir "data/${name}" \
    ${voices:+--voices "${voices//,/ }"} --nj "${nj}" ${items:+--first "${items}"}
