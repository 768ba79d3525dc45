#!/usr/bin/env bash
# Data directories of VoxCeleb1 by its official split (db.sh says where it is).
set -e
set -u
set -o pipefail

# Options
split= # Another file than iden_split.txt of the corpus.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of VOXCELEB1 "the directory of VoxCeleb1"
python3 -m espnet_prune corpus voxceleb "${VOXCELEB1}" "${datadir}" ${split:+--split "${split}"}
