#!/usr/bin/env bash
# Data directories of the Debian packaged voice prompts, or of a directory of audio. To prune on: a
# part of them, and English sentences in many voices (*_many). To test on: sentences of mini_spiral's
# items, read by two voices that are in no training data.
set -e
set -u
set -o pipefail

# Options
audio_dir=  # Take the audio files below this directory (x.txt beside x.wav is its transcript).
many=true   # Make train_many and valid_many (extra sir); else name other sets in --train_set and --valid_set.
unseen=true # Make test_hibari and test_joe (extra voices); else name others in --test_sets.
debug=false # Write small subsets as well (*_debug).
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

python3 -m espnet_prune corpus voice_prompts "${datadir}" --download_dir "${download_dir}" \
    ${audio_dir:+--audio_dir "${audio_dir}"}

suffix="" sentences=() unseen_sentences=() # all, or in debug runs a part
if "${debug}"; then
    suffix=_debug sentences=(--sentences 16) unseen_sentences=(--sentences 2)
    for set_and_size in train_ssl:60 valid_ssl:12 train_some:12 valid_some:6 train_en:24 dev_en:8 \
        test_en:8; do
        set=${datadir}/${set_and_size%:*}
        if [ -d "${set}" ]; then
            python3 -m espnet_prune data subset "${set}" "${set}_debug" --random "${set_and_size#*:}"
        fi
    done
fi

if "${many}"; then
    python3 -m espnet_prune corpus many_voices "${datadir}/voices${suffix}" --nj "${nj}" \
        --download_dir "${download_dir}" "${sentences[@]}"
    for part in train valid; do
        python3 -m espnet_prune data combine "${datadir}/${part}_many${suffix}" \
            "${datadir}/${part}_some${suffix}" "${datadir}/voices${suffix}/${part}_voices"
    done
fi

if "${unseen}"; then
    python3 -m espnet_prune corpus unseen_voices "${datadir}/voices${suffix}" \
        --items ../../mini_spiral/sir1/items/*.jsonl --download_dir "${download_dir}" \
        "${unseen_sentences[@]}"
    for voice in hibari joe; do
        python3 -m espnet_prune data combine "${datadir}/test_${voice}${suffix}" \
            "${datadir}/voices${suffix}/test_${voice}"
    done
fi
