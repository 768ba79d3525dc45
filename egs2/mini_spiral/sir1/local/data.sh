#!/usr/bin/env bash
# Speaks the items of this recipe into a data directory.
set -e
set -u
set -o pipefail

# Options
voices= # As espnet-prune sir data takes them; natural ones when empty.
items=  # (whole number) How many of the items; all when empty.
name=mini_spiral # Name of the data directory.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

python3 -m espnet_prune sir data --items items/*.jsonl --output_dir "${datadir}/${name}" \
    ${voices:+--voices "${voices//,/ }"} --work "${download_dir}" --nj "${nj}" \
    ${items:+--first "${items}"}
