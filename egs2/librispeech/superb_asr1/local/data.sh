#!/usr/bin/env bash
# Data directories of LibriSpeech's 100 clean hours (db.sh says where LibriSpeech is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of LIBRISPEECH "the directory of LibriSpeech"
python3 -m espnet_prune corpus librispeech_superb "${LIBRISPEECH}" "${datadir}"
