#!/usr/bin/env bash
# Data directories of LibriSpeech, from the corpus as it is published (db.sh says where it is).
set -e
set -u
set -o pipefail

train_hours=960 # 960 or 100: which training subsets are wanted.

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh

if [ -z "${LIBRISPEECH}" ]; then
    echo "$0: error: Fill the value of 'LIBRISPEECH' of db.sh: the directory of LibriSpeech" >&2
    exit 1
fi
python3 -m espnet_prune.recipe librispeech "${LIBRISPEECH}" data --train_hours "${train_hours}"
