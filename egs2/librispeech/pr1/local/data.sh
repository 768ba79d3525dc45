#!/usr/bin/env bash
# Data directories of LibriSpeech's 100 clean hours with phones (db.sh says where LibriSpeech and
# its lexicons are).
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
if [ -z "${LIBRISPEECH_LEXICON}" ]; then
    echo "$0: error: Fill the value of 'LIBRISPEECH_LEXICON' of db.sh: pronunciations of its words" >&2
    exit 1
fi
# shellcheck disable=SC2086
python3 -m espnet_prune.recipe librispeech_superb "${LIBRISPEECH}" data --lexicon ${LIBRISPEECH_LEXICON}
