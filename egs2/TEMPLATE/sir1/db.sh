# Where data is on this machine: fill in what you have, or set the variable in the environment.
# shellcheck shell=bash
# shellcheck disable=SC2034

# SPIRAL as its authors publish it (github.com/linyueqian/SPIRAL_Dataset): the directory that holds
# data.jsonl and data_h.jsonl. Fetched from there when empty.
SPIRAL="${SPIRAL:-}"

# Their recordings, lecture_2.wav and so on; without them the items are spoken by synthetic voices.
SPIRAL_WAVS="${SPIRAL_WAVS:-}"
