#!/usr/bin/env bash
# Data directories spiral and spiral_h from the authors' JSONL, with their recordings or synthetic
# speech.
set -e
set -u
set -o pipefail

# Options
voices= # As espnet-prune sir data takes them; natural ones when empty.
items=  # (whole number) How many of the items; all when empty.
suffix= # Of the names of the data directories.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

if [ -z "${SPIRAL}" ]; then
    SPIRAL=${download_dir}/SPIRAL_Dataset
    if ! clone https://github.com/linyueqian/SPIRAL_Dataset "${SPIRAL}"; then
        echo "$0: error: the dataset cannot be fetched from its authors. Set SPIRAL in db.sh to the" \
            "directory that holds data.jsonl and data_h.jsonl" >&2
        exit 1
    fi
fi
# speak SET FILE: the items of a file, spoken into the data directory of the set.
speak() {
    python3 -m espnet_prune sir data --items "${SPIRAL}/$2" --output_dir "${datadir}/$1${suffix}" \
        ${voices:+--voices "${voices//,/ }"} --work "${download_dir}" --nj "${nj}" \
        ${SPIRAL_WAVS:+--audio_dir "${SPIRAL_WAVS}"} ${items:+--first "${items}"}
}
speak spiral data.jsonl
if [ ! -f "${SPIRAL}/data_h.jsonl" ]; then
    echo "$0: ${SPIRAL} has no data_h.jsonl: there will be no ${datadir}/spiral_h" >&2
    exit 0
fi
# All of its items are in data.jsonl, too; of a few of each set that need not be so.
if [ -z "${items}" ]; then
    python3 -m espnet_prune sir data --items "${SPIRAL}/data_h.jsonl" \
        --output_dir "${datadir}/spiral_h${suffix}" --part_of "${datadir}/spiral${suffix}"
else
    speak spiral_h data_h.jsonl
fi
