#!/usr/bin/env bash
# Data directories of the Free Spoken Digit Dataset: from where db.sh says, else from its authors.
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

if [ -z "${FSDD}" ]; then
    FSDD=${download_dir}/free-spoken-digit-dataset
    if ! clone https://github.com/Jakobovski/free-spoken-digit-dataset "${FSDD}"; then
        echo "$0: error: the dataset cannot be fetched from its authors. Fill the value of 'FSDD' of" \
            "db.sh: the directory of its recordings" >&2
        exit 1
    fi
fi
python3 -m espnet_prune corpus fsdd_digits "${FSDD}" "${datadir}"
