#!/usr/bin/env bash
# Train a compact speech LLM from nothing but what installs here: a language model writes text,
# synthetic voices speak it and texts of a dictionary, an adapter learns to hear, LoRA teaches the
# language model to read it.
# --debug true goes through all stages with a few excerpts; see --help.
set -e
set -u
set -o pipefail

# shellcheck source=template/common/options.sh
. template/common/options.sh

# Options
# General
stage=1               # First stage to run.
stop_stage=10000      # Last stage to run.
skip_stages=          # Stages to leave out, e.g. "2 8".
skip_data_prep=false  # Leave out data preparation (stages 2 to 4).
skip_train=false      # Leave out the training (stages 5 and 6).
skip_eval=false       # Leave out the report (stage 8).
debug=false           # A short run with a few excerpts, in dump_debug, exp_debug and data/debug: the
                      # options debug_* of the trainings come before the other ones, so that those win.
ngpu=0                # Number of GPUs (0: CPU).
nj=2                  # Processes that speak.
python=python3        # Command that starts Python.
seed=0                # Seed of text, facts, batches and weights.
datadir=data          # Data directories.
download_dir=downloads # Voices that are downloaded.
dumpdir=dump          # Speech and features.
expdir=exp            # Everything that is trained.

# Data
hours=9.0             # Hours of written text to train on.
held_out=60           # Passages for validation and test.
passages=             # File of a JSON list of sentences a line; written by the language model when empty.
words_args=           # Options for `espnet-prune compact words`, e.g. "--times 8".
fact_share=0.5        # Share of the excerpts with an invented fact and a question about it.
speech_args=          # Options for `espnet-prune compact speech`, e.g. "--voices en-us".
start=                # Compact speech LLM to train further: LoRA only (no stage 5); from nothing when empty.
merges=8000           # Merges of the byte-pair table, for the tokens that the adapter spells with.

# Model
encoder=whisper_tiny.en        # Frozen speech encoder, dense or pruned: name or directory.
language_model=smollm2_135m    # Frozen language model: name or directory.
ctc_config=conf/ctc.yaml       # Config of the adapter's training.
ctc_args=             # Options that override it.
debug_ctc_args="--max_epoch 2 --num_iters_per_epoch null --log_interval 1 --scheduler_conf max_steps=10 --model_conf bf16=false --audio_adapter_conf width=32 --audio_adapter_conf heads=4 --audio_adapter_conf feedforward=32" # Options of the adapter's training in a debug run.
lora_config=conf/lora.yaml     # Config of LoRA's training.
lora_args=            # Options that override it.
debug_lora_args="--max_epoch 2 --num_iters_per_epoch 4 --log_interval 1 --accum_grad 2 --lora_rank 2 --lora_alpha 4 --scheduler_conf max_steps=4 --model_conf noise=0.1 --model_conf bf16=false --audio_adapter_conf width=32 --audio_adapter_conf heads=4 --audio_adapter_conf feedforward=32" # Options of LoRA's training in a debug run.
report_excerpts=200   # Held-out excerpts of the report.
# End of options

# shellcheck disable=SC2034
stages="1 encoder and language model, 2 text, 3 speech, 4 tokens and features, 5 adapter (CTC),
  6 LoRA, 7 export, 8 report."
parse_options "$@"
for name in ctc_config lora_config; do
    if [ ! -f "${!name}" ]; then option_error "--${name} ${!name}: no such file"; fi
done

# shellcheck source=template/common/path.sh
. template/common/path.sh
# shellcheck source=template/common/cmd.sh
. template/common/cmd.sh
# shellcheck source=template/common/stages.sh
. template/common/stages.sh

if "${debug}"; then
    unless_given dumpdir dump_debug
    unless_given expdir exp_debug
    unless_given datadir data/debug
    unless_given hours 0.02
    unless_given held_out 4
    unless_given words_args "--times 0 --text_times 0"
    ctc_args="${debug_ctc_args} ${ctc_args}"
    lora_args="${debug_lora_args} ${lora_args}"
fi
if "${skip_data_prep}"; then skip_stages+=" 2 3 4"; fi
if "${skip_train}"; then skip_stages+=" 5 6"; fi
if "${skip_eval}"; then skip_stages+=" 8"; fi
encoder_dir=${expdir}/encoder
lm_dir=${expdir}/language_model
pieces=${expdir}/pieces.json
init=${expdir}/ctc/valid.wer.best.pth
init_param=${init}:adapter:adapter
if [ -n "${start}" ]; then
    # Lists of words are for the adapter alone.
    unless_given words_args "--times 0 --text_times 0"
    init=${expdir}/start.pth
    init_param=${init}
fi

ctc_words=() lora_words=() words_words=() speech_words=()
words ctc_words "${ctc_args}"
words lora_words "${lora_args}"
words words_words "${words_args}"
words speech_words "${speech_args}"

# training STEP NAME...: options of a training on ${dumpdir}/SET/STEP with the texts named, in the
# array ${training}; what they are made of is in ${training_inputs}.
training() {
    local part name from step=$1
    shift
    training=() training_inputs=("${encoder_dir}" "${lm_dir}" "${pieces}")
    for part in train valid; do
        from=${dumpdir}/${part}/${step}
        training+=("--${part}_data_path_and_name_and_type" "${from}/feats.scp,feats,npy")
        training+=("--${part}_shape_file" "${from}/feats_shape")
        training_inputs+=("${from}/feats_shape" "${dumpdir}/${part}/feats/.made_of.json")
        for name in "$@"; do
            training+=("--${part}_data_path_and_name_and_type" "${from}/${name},${name},text")
            training_inputs+=("${from}/${name}")
        done
    done
    training+=(--encoder "${encoder_dir}" --language_model "${lm_dir}" --pieces "${pieces}")
    training+=(--resume true --seed "${seed}" --ngpu "${ngpu}")
}

hold "${expdir}"
hold "${dumpdir}"
if wanted 2 || wanted 3; then hold "${datadir}"; fi

if wanted 1; then
    log "Stage 1: ${encoder} and ${language_model}"
    ${python} -m espnet_prune hub fetch --model "${encoder}" --output_dir "${encoder_dir}"
    ${python} -m espnet_prune hub fetch --model "${language_model}" \
        --kind language_model --output_dir "${lm_dir}"
fi

if [ -z "${passages}" ]; then
    passages=${datadir}/text/passages.jsonl
    if wanted 2; then
        log "Stage 2: Text: ${passages}"
        fresh "${datadir}/text" "${lm_dir}" "${hours} ${held_out} ${seed}"
        ${python} -m espnet_prune compact text --language_model "${lm_dir}" \
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
    ${python} -m espnet_prune compact words --language_model "${lm_dir}" \
        --seed "${seed}" --tools_dir "${download_dir}" --output "${datadir}/words.jsonl" "${words_words[@]}"
    ${python} -m espnet_prune compact speech --passages "${passages}" \
        --word_lists "${datadir}/words.jsonl" --held_out "${held_out}" \
        --fact_share "${fact_share}" --seed "${seed}" --nj "${nj}" \
        --tools_dir "${download_dir}" --output_dir "${datadir}" "${speech_words[@]}"
fi

if wanted 4; then
    log "Stage 4: Tokens and features: ${dumpdir}"
    if [ -n "${start}" ]; then
        ${python} -m espnet_prune compact start --model "${start}" \
            --language_model "${lm_dir}" --merges "${merges}" --pieces "${pieces}" \
            --weights "${init}"
    else
        ${python} -m espnet_prune compact tokens --language_model "${lm_dir}" \
            --words "${datadir}/train/words" --merges "${merges}" --output "${pieces}"
    fi
    for dset in train valid; do
        fresh "${dumpdir}/${dset}" "${seed}"
        ${python} -m espnet_prune compact features --encoder "${encoder_dir}" \
            --data_dir "${datadir}/${dset}" --ngpu "${ngpu}" --seed "${seed}" \
            --output_dir "${dumpdir}/${dset}"
    done
fi

if wanted 5 && [ -z "${start}" ]; then
    log "Stage 5: Adapter: ${expdir}/ctc"
    training ctc words
    fresh "${expdir}/ctc" "${training_inputs[@]}" "${ctc_config}" "${ctc_args} ${seed}"
    launch "${expdir}/ctc" ${python} -m espnet_prune.bin.speech_llm_ctc_train \
        --config "${ctc_config}" "${training[@]}" --output_dir "${expdir}/ctc" "${ctc_words[@]}"
fi

if wanted 6; then
    log "Stage 6: LoRA: ${expdir}/lora"
    training lora prompt answer
    fresh "${expdir}/lora" "${training_inputs[@]}" "${init}" "${lora_config}" "${lora_args} ${seed}"
    launch "${expdir}/lora" ${python} -m espnet_prune.bin.speech_llm_lora_train \
        --config "${lora_config}" "${training[@]}" \
        --init_param "${init_param}" \
        --output_dir "${expdir}/lora" "${lora_words[@]}"
fi

if wanted 7; then
    log "Stage 7: Export: ${expdir}/compact"
    ${python} -m espnet_prune compact export --train_dir "${expdir}/lora" \
        --output_dir "${expdir}/compact"
fi

if wanted 8; then
    log "Stage 8: Report: ${expdir}/RESULTS.md"
    ${python} -m espnet_prune compact report --model "${expdir}/compact" \
        --encoder "${encoder_dir}" --language_model "${lm_dir}" --data_dir "${datadir}/test" \
        --most "${report_excerpts}" --output "${expdir}/RESULTS.md"
fi

log "Done."
