#!/usr/bin/env bash
# data/spiral and data/spiral_h from the authors' JSONL, with their recordings or synthetic speech.
set -e
set -u
set -o pipefail

nj=1      # Parallel jobs.
voices= # Of Flite (slt awb rms kal) and eSpeak NG (en-us+f2); "" takes those kept for evaluation.
items=    # How many of the items ("": all).
suffix=   # Of the names of the data directories.

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${SPIRAL}" ]; then
    SPIRAL=downloads/SPIRAL_Dataset
    if [ ! -f "${SPIRAL}/data.jsonl" ] && ! git clone --depth 1 \
        https://github.com/linyueqian/SPIRAL_Dataset "${SPIRAL}"; then
        echo "$0: error: the dataset cannot be fetched from its authors. Set SPIRAL in db.sh to the" \
            "directory that holds data.jsonl and data_h.jsonl" >&2
        exit 1
    fi
fi
python3 -m espnet_prune.bin.sir_data --items "${SPIRAL}/data.jsonl" \
    --output_dir "data/spiral${suffix}" ${voices:+--voices "${voices//,/ }"} --nj "${nj}" \
    ${SPIRAL_WAVS:+--audio_dir "${SPIRAL_WAVS}"} ${items:+--first "${items}"}
if [ ! -f "${SPIRAL}/data_h.jsonl" ]; then
    echo "$0: ${SPIRAL} has no data_h.jsonl: there will be no data/spiral_h" >&2
    exit 0
fi
# All of its items are in data.jsonl, too; of a few of each set that need not be so.
if [ -z "${items}" ]; then
    python3 -m espnet_prune.bin.sir_data --items "${SPIRAL}/data_h.jsonl" \
        --output_dir "data/spiral_h${suffix}" --part_of "data/spiral${suffix}"
else
    python3 -m espnet_prune.bin.sir_data --items "${SPIRAL}/data_h.jsonl" \
        --output_dir "data/spiral_h${suffix}" ${voices:+--voices "${voices//,/ }"} --nj "${nj}" \
        ${SPIRAL_WAVS:+--audio_dir "${SPIRAL_WAVS}"} --first "${items}"
fi
