#!/usr/bin/env bash
# Data directories of LibriSpeech's 100 clean hours (db.sh says where LibriSpeech is).
set -e
set -u
set -o pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${LIBRISPEECH}" ]; then
    echo "$0: error: Fill the value of 'LIBRISPEECH' of db.sh: the directory of LibriSpeech" >&2
    exit 1
fi
python3 -m espnet_prune.recipe librispeech_superb "${LIBRISPEECH}" data
