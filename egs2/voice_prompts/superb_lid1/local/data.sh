#!/usr/bin/env bash
# Data directories of the Debian packaged voice prompts, labelled with their languages.
set -e
set -u
set -o pipefail

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

python3 -m espnet_prune corpus voice_languages "${datadir}" --download_dir "${download_dir}"
