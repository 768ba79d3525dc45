#!/usr/bin/env bash
# Train a compact speech LLM from nothing but what installs here: a language model writes text,
# synthetic voices speak it and texts of a dictionary, an adapter learns to hear, LoRA teaches the
# language model to read it.
# --debug true goes through all stages with a few windows; see --help.
set -e
set -u
set -o pipefail

# shellcheck source=stages.sh
. ./stages.sh

# General
stage=1             # First stage to run.
stop_stage=10000    # Last stage to run.
debug=false         # A few windows and steps, in dump_debug and exp_debug.
ngpu=0              # Number of GPUs (0: CPU).
nj=2                # Processes that speak.
python=python3      # Command that starts Python.
seed=0              # Of text, facts, batches and weights.
dumpdir=            # Speech and features; dump (dump_debug) when empty.
expdir=             # Everything that is trained; exp (exp_debug) when empty.
datadir=            # Data directories; data (data/debug) when empty.

# Data
hours=              # Hours of written text to train on; 9 (a minute for --debug true) when empty.
held_out=           # Passages for validation and test; 60 (4) when empty.
passages=           # File of a JSON list of sentences a line; written by the language model if empty.
words_args=         # Options for python -m espnet_prune.bin.speech_llm_words, as "--times 8".
fact_share=0.5      # Share of the windows with an invented fact and a question about it.
speech_args=        # Options for python -m espnet_prune.bin.speech_llm_speech, as --voices.
start=              # Compact speech LLM to train further: LoRA only (no stage 5); from nothing when empty.
merges=8000         # Of the byte-pair table, for the tokens that the adapter spells with.

# Model
encoder=whisper_tiny.en        # Frozen speech encoder, dense or pruned: name or directory.
language_model=smollm2_135m    # Frozen language model: name or directory.
ctc_config=         # conf/ctc.yaml (conf/ctc_debug.yaml) when empty.
ctc_args=           # Options that override it.
lora_config=        # conf/lora.yaml (conf/lora_debug.yaml) when empty.
lora_args=          # Options that override it.
report_windows=200  # Held-out windows of the report.

# shellcheck disable=SC2034
help_message="Usage: $0 [--option value]...
$(sed -n '/^# General/,/^help_message=/p' "${BASH_SOURCE[0]}" | grep -v '^# shellcheck\|^help_' | sed 's/^\([a-z_]*\)=\([^ ]*\) *# /  --\1 [\2]  /')

Stages: 1 encoder and language model, 2 text, 3 speech, 4 tokens and features, 5 adapter (CTC),
  6 LoRA, 7 export, 8 report."

# shellcheck source=parse_options.sh
. ./parse_options.sh
if [ $# -ne 0 ]; then
    echo "$0: error: positional argument '$1'; options start with --" >&2
    exit 2
fi
# shellcheck source=path.sh
. ./path.sh
# shellcheck source=cmd.sh
. ./cmd.sh

suffix=
if "${debug}"; then suffix=_debug; fi
dumpdir=${dumpdir:-dump${suffix}}
expdir=${expdir:-exp${suffix}}
datadir=${datadir:-data${suffix:+/debug}}
ctc_config=${ctc_config:-conf/ctc${suffix}.yaml}
lora_config=${lora_config:-conf/lora${suffix}.yaml}
if "${debug}"; then
    hours=${hours:-0.02}
    held_out=${held_out:-4}
    words_args=${words_args:---times 0 --text_times 0}
else
    hours=${hours:-9}
    held_out=${held_out:-60}
fi
encoder_dir=${expdir}/encoder
lm_dir=${expdir}/language_model
pieces=${expdir}/pieces.json
init=${expdir}/ctc/valid.wer.best.pth
init_param=${init}:adapter:adapter
if [ -n "${start}" ]; then
    # Lists of words are for the adapter alone.
    words_args=${words_args:---times 0 --text_times 0}
    init=${expdir}/start.pth
    init_param=${init}
fi

# Whether stage $1 is to be run.
wanted() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ]; }

# Options of a training on ${dumpdir}/SET/STEP with the texts named.
training() {
    local step=$1 part name
    shift
    for part in train valid; do
        local from=${dumpdir}/${part}/${step}
        echo --${part}_data_path_and_name_and_type "${from}/feats.scp,feats,npy"
        echo --${part}_shape_file "${from}/feats_shape"
        for name in "$@"; do
            echo --${part}_data_path_and_name_and_type "${from}/${name},${name},text"
        done
    done
    echo --encoder "${encoder_dir}" --language_model "${lm_dir}" --pieces "${pieces}"
    echo --resume true --seed "${seed}" --ngpu "${ngpu}"
}

if wanted 1; then
    log "Stage 1: ${encoder} and ${language_model}"
    ${python} -m espnet_prune.hub.pretrained --model "${encoder}" --output_dir "${encoder_dir}"
    ${python} -m espnet_prune.hub.pretrained --model "${language_model}" \
        --kind language_model --output_dir "${lm_dir}"
fi

if [ -z "${passages}" ]; then
    passages=${datadir}/text/passages.jsonl
    if wanted 2; then
        log "Stage 2: Text: ${passages}"
        fresh "${datadir}/text" "${lm_dir}/config.json" "${hours} ${held_out} ${seed}"
        ${python} -m espnet_prune.bin.speech_llm_text --language_model "${lm_dir}" \
            --hours "${hours}" --held_out "${held_out}" --seed "${seed}" --ngpu "${ngpu}" \
            --output "${passages}"
    fi
fi

if wanted 3; then
    log "Stage 3: Speech: ${datadir}"
    for dset in train valid test; do
        fresh "${datadir}/${dset}" "${passages}" "${held_out} ${fact_share} ${seed}" \
            "${words_args}" "${speech_args}"
    done
    # shellcheck disable=SC2086
    ${python} -m espnet_prune.bin.speech_llm_words --language_model "${lm_dir}" \
        --seed "${seed}" --tools_dir downloads --output "${datadir}/words.jsonl" ${words_args}
    # shellcheck disable=SC2086
    ${python} -m espnet_prune.bin.speech_llm_speech --passages "${passages}" \
        --word_lists "${datadir}/words.jsonl" --held_out "${held_out}" \
        --fact_share "${fact_share}" --seed "${seed}" --nj "${nj}" \
        --tools_dir downloads --output_dir "${datadir}" ${speech_args}
fi

if wanted 4; then
    log "Stage 4: Tokens and features: ${dumpdir}"
    if [ -n "${start}" ]; then
        ${python} -m espnet_prune.bin.speech_llm_start --model "${start}" \
            --language_model "${lm_dir}" --merges "${merges}" --pieces "${pieces}" \
            --weights "${init}"
    else
        ${python} -m espnet_prune.bin.speech_llm_tokens --language_model "${lm_dir}" \
            --words "${datadir}/train/words" --merges "${merges}" --output "${pieces}"
    fi
    for dset in train valid; do
        fresh "${dumpdir}/${dset}" "${seed}"
        ${python} -m espnet_prune.bin.speech_llm_features --encoder "${encoder_dir}" \
            --data_dir "${datadir}/${dset}" --ngpu "${ngpu}" --seed "${seed}" \
            --output_dir "${dumpdir}/${dset}"
    done
fi

if wanted 5 && [ -z "${start}" ]; then
    log "Stage 5: Adapter: ${expdir}/ctc"
    fresh "${expdir}/ctc" "${pieces}" "${dumpdir}/train/ctc/feats_shape" "${ctc_config}" \
        "${ctc_args} ${seed}"
    # shellcheck disable=SC2086,SC2046
    launch "${expdir}/ctc" ${python} -m espnet_prune.bin.speech_llm_ctc_train \
        --config "${ctc_config}" $(training ctc words) --output_dir "${expdir}/ctc" ${ctc_args}
fi

if wanted 6; then
    log "Stage 6: LoRA: ${expdir}/lora"
    fresh "${expdir}/lora" "${pieces}" "${init}" \
        "${dumpdir}/train/lora/feats_shape" "${dumpdir}/train/lora/prompt" \
        "${lora_config}" "${lora_args} ${seed}"
    # shellcheck disable=SC2086,SC2046
    launch "${expdir}/lora" ${python} -m espnet_prune.bin.speech_llm_lora_train \
        --config "${lora_config}" $(training lora prompt answer) \
        --init_param "${init_param}" \
        --output_dir "${expdir}/lora" ${lora_args}
fi

if wanted 7; then
    log "Stage 7: Export: ${expdir}/compact"
    ${python} -m espnet_prune.bin.speech_llm_export --train_dir "${expdir}/lora" \
        --output_dir "${expdir}/compact"
fi

if wanted 8; then
    log "Stage 8: Report: ${expdir}/RESULTS.md"
    ${python} -m espnet_prune.bin.speech_llm_report --model "${expdir}/compact" \
        --encoder "${encoder_dir}" --language_model "${lm_dir}" --data_dir "${datadir}/test" \
        --most "${report_windows}" --output "${expdir}/RESULTS.md"
fi
