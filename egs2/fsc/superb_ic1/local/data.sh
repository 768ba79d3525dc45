#!/usr/bin/env bash
# Data directories of Fluent Speech Commands (db.sh says where it is).
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of FSC "the directory of Fluent Speech Commands"
python3 -m espnet_prune corpus fsc "${FSC}" "${datadir}"
