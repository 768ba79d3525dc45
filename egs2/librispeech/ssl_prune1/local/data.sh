#!/usr/bin/env bash
# Data directories of LibriSpeech, from the corpus as it is published (db.sh says where it is).
set -e
set -u
set -o pipefail

# Options
train_hours=960 # 960 or 100: which training subsets are wanted.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of LIBRISPEECH "the directory of LibriSpeech"
python3 -m espnet_prune corpus librispeech "${LIBRISPEECH}" "${datadir}" --train_hours "${train_hours}"
