#!/usr/bin/env bash
# Data directories dream and dream_60s from AudioBench's dataset.
set -e
set -u
set -o pipefail

# Options
items=  # (whole number) How many of the questions; all when empty.
suffix= # Of the name of the first data directory.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of DREAM_TTS "the directory of AudioBench's dream_tts_mcq_test, with data/test-*.parquet"
python3 -m espnet_prune corpus audiobench "${DREAM_TTS}" "${datadir}" --name "dream${suffix}" \
    ${items:+--first "${items}"}
