#!/usr/bin/env bash
# Data directories of LibriSpeech's 100 clean hours with phones (db.sh says where LibriSpeech and
# its lexicons are).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of LIBRISPEECH "the directory of LibriSpeech"
corpus_of LIBRISPEECH_LEXICON "pronunciations of its words"
lexicons=()
words lexicons "${LIBRISPEECH_LEXICON}"
python3 -m espnet_prune corpus librispeech_superb "${LIBRISPEECH}" "${datadir}" \
    --lexicon "${lexicons[@]}"
