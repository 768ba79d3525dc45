#!/usr/bin/env bash
# Data directories of the Debian packaged voice prompts, or of a directory of audio; and test sets of
# two voices that are in no training data, which read sentences of mini_spiral's items.
set -e
set -u
set -o pipefail

# Options
audio_dir=  # Take the audio files below this directory (x.txt beside x.wav is its transcript).
unseen=true # Make test_hibari and test_joe (extra voices); else leave them out of --test_sets.
debug=false # Write small subsets as well (*_debug).
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

python3 -m espnet_prune corpus voice_prompts "${datadir}" --download_dir "${download_dir}" \
    ${audio_dir:+--audio_dir "${audio_dir}"}

if "${unseen}"; then
    python3 -m espnet_prune corpus unseen_voices "${datadir}" --download_dir "${download_dir}" \
        --items ../../mini_spiral/sir1/items/*.jsonl
fi

if "${debug}"; then
    for set_and_size in train_ssl:60 valid_ssl:12 train_en:24 dev_en:8 test_en:8 test_hibari:4 \
        test_joe:4; do
        set=${datadir}/${set_and_size%:*}
        if [ -d "${set}" ]; then
            python3 -m espnet_prune data subset "${set}" "${set}_debug" --random "${set_and_size#*:}"
        fi
    done
fi
