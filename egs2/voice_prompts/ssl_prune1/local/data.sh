#!/usr/bin/env bash
# Data directories of the Debian packaged voice prompts, or of a directory of audio.
set -e
set -u
set -o pipefail

# Options
audio_dir=  # Take the audio files below this directory (x.txt beside x.wav is its transcript).
debug=false # Write small subsets as well (*_debug).
# End of options

# shellcheck source=../template/common/local_data.sh
. template/common/local_data.sh

python3 -m espnet_prune corpus voice_prompts "${datadir}" --download_dir "${download_dir}" \
    ${audio_dir:+--audio_dir "${audio_dir}"}

if "${debug}"; then
    for set_and_size in train_ssl:60 valid_ssl:12 train_en:24 dev_en:8 test_en:8; do
        set=${datadir}/${set_and_size%:*}
        if [ -d "${set}" ]; then
            python3 -m espnet_prune data subset "${set}" "${set}_debug" --random "${set_and_size#*:}"
        fi
    done
fi
