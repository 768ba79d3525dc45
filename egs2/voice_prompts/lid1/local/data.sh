#!/usr/bin/env bash
# Data directories of the Debian packaged voice prompts, labelled with their languages.
set -e
set -u
set -o pipefail

download_dir=../ssl_prune1/downloads # Of the Debian packages; the ASR recipe has them, too.

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh

python3 -m espnet_prune.recipe voice_languages data --download_dir "${download_dir}"
