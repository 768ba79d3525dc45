#!/usr/bin/env bash
# Query-by-example search in QUESST 2014 with a frozen encoder: SUPERB's QbE, which trains nothing.
# --upstream names the encoder; --inference_args "--ngpu 1" takes a GPU; see --help for all options.
set -e
set -u
set -o pipefail

# shellcheck source=probe_options.sh
. ./probe_options.sh

./superb.sh --superb_task QbE --espnet_task none --train_set documents --valid_set dev \
    --test_sets eval "${defaults[@]}" "${options[@]}"
