#!/usr/bin/env bash
# Data directories ccl and ccl_60s from AudioBench's dataset.
set -e
set -u
set -o pipefail

# Options
items=  # (whole number) How many of the questions; all when empty.
suffix= # Of the name of the first data directory.
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

corpus_of CN_COLLEGE_LISTEN "the directory of AudioBench's cn_college_listen_mcq_test, with data/test-*.parquet"
python3 -m espnet_prune corpus audiobench "${CN_COLLEGE_LISTEN}" "${datadir}" --name "ccl${suffix}" \
    ${items:+--first "${items}"}
