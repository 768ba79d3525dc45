#!/usr/bin/env bash
# Data directories of the Debian packaged voice prompts, or of a directory of audio.
set -e
set -u
set -o pipefail

audio_dir= # Take the audio files below this directory (x.txt beside x.wav is its transcript).
download_dir=downloads # For the Debian packages.
debug=false # Write small subsets as well (*_debug).

# shellcheck source=../parse_options.sh
. ./parse_options.sh
# shellcheck source=../path.sh
. ./path.sh

recipe="python3 -m espnet_prune.recipe"
# shellcheck disable=SC2086
${recipe} voice_prompts data --download_dir "${download_dir}" ${audio_dir:+--audio_dir "${audio_dir}"}

if "${debug}"; then
    for set_and_size in train_ssl:60 valid_ssl:12 train_en:24 dev_en:8 test_en:8; do
        set=${set_and_size%:*}
        if [ -d "data/${set}" ]; then
            ${recipe} subset "data/${set}" "data/${set}_debug" --random "${set_and_size#*:}"
        fi
    done
fi
