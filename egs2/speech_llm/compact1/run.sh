#!/usr/bin/env bash
# Train a compact speech LLM from nothing but what installs here: a language model writes text,
# synthetic voices speak it, Whisper hears it, LoRA teaches the language model to read what was heard.
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
skip_stages=          # Stages to leave out, e.g. "2 7".
skip_data_prep=false  # Leave out data preparation (stages 2 to 4).
skip_train=false      # Leave out the training (stage 5).
skip_eval=false       # Leave out the report (stage 7).
debug=false           # A short run with a few excerpts, in dump_debug, exp_debug and data/debug: the
                      # options debug_lora_args come before the other ones, so that those win.
ngpu=0                # Number of GPUs (0: CPU).
nj=2                  # Processes that speak.
python=python3        # Command that starts Python.
seed=0                # Seed of text, facts, batches and weights.
datadir=data          # Data directories.
download_dir=downloads # Voices that are downloaded.
dumpdir=dump          # What Whisper hears.
expdir=exp            # Everything that is trained.

# Data
hours=9.0             # Hours of written text to train on.
held_out=60           # Passages for validation and test.
passages=             # File of a JSON list of sentences a line; written by the language model when empty.
fact_share=0.5        # Share of the excerpts with an invented fact and a question about it.
speech_args=          # Options for `espnet-prune compact speech`, e.g. "--voices en-us".

# Model
whisper=openai/whisper-tiny.en # The ear: name or directory.
encoder=              # Directory of a pruned encoder for it; Whisper's own when empty.
language_model=smollm2_135m    # Frozen language model: name or directory.
lora_config=conf/lora.yaml     # Config of LoRA's training.
lora_args=            # Options that override it.
debug_lora_args="--max_epoch 2 --num_iters_per_epoch 4 --log_interval 1 --accum_grad 2 --lora_rank 2 --lora_alpha 4 --scheduler_conf max_steps=4" # Options of LoRA's training in a debug run.
report_excerpts=200   # Held-out excerpts of the report.
# End of options

# shellcheck disable=SC2034
stages="1 Whisper and language model, 2 text, 3 speech, 4 hearing, 5 LoRA, 6 export, 7 report."
parse_options "$@"
if [ ! -f "${lora_config}" ]; then option_error "--lora_config ${lora_config}: no such file"; fi

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
    lora_args="${debug_lora_args} ${lora_args}"
fi
if "${skip_data_prep}"; then skip_stages+=" 2 3 4"; fi
if "${skip_train}"; then skip_stages+=" 5"; fi
if "${skip_eval}"; then skip_stages+=" 7"; fi
whisper_dir=${expdir}/whisper
lm_dir=${expdir}/language_model

lora_words=() speech_words=()
words lora_words "${lora_args}"
words speech_words "${speech_args}"

hold "${expdir}"
hold "${dumpdir}"
if wanted 2 || wanted 3; then hold "${datadir}"; fi

if wanted 1; then
    log "Stage 1: ${whisper} and ${language_model}"
    ${python} -m espnet_prune hub fetch --model "${whisper}" --output_dir "${whisper_dir}"
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
        fresh "${datadir}/${dset}" "${passages}" "${held_out} ${fact_share} ${seed}" "${speech_args}"
    done
    ${python} -m espnet_prune compact speech --passages "${passages}" --held_out "${held_out}" \
        --fact_share "${fact_share}" --seed "${seed}" --nj "${nj}" \
        --tools_dir "${download_dir}" --output_dir "${datadir}" "${speech_words[@]}"
fi

if wanted 4; then
    log "Stage 4: Hearing: ${dumpdir}"
    for dset in train valid; do
        fresh "${dumpdir}/${dset}" "${seed} ${encoder}"
        ${python} -m espnet_prune compact hear --whisper "${whisper_dir}" \
            ${encoder:+--encoder "${encoder}"} --language_model "${lm_dir}" --nj "${nj}" \
            --data_dir "${datadir}/${dset}" --ngpu "${ngpu}" --seed "${seed}" \
            --output_dir "${dumpdir}/${dset}"
    done
fi

if wanted 5; then
    log "Stage 5: LoRA: ${expdir}/lora"
    training=() inputs=("${whisper_dir}" "${lm_dir}")
    for part in train valid; do
        from=${dumpdir}/${part}
        training+=("--${part}_data_path_and_name_and_type" "${from}/tokens.scp,tokens,npy")
        training+=("--${part}_shape_file" "${from}/tokens_shape")
        inputs+=("${from}/tokens_shape" "${from}/tokens/.made_of.json")
        for name in prompt answer; do
            training+=("--${part}_data_path_and_name_and_type" "${from}/${name},${name},text")
            inputs+=("${from}/${name}")
        done
    done
    fresh "${expdir}/lora" "${inputs[@]}" "${lora_config}" "${lora_args} ${seed}"
    launch "${expdir}/lora" ${python} -m espnet_prune.bin.speech_llm_lora_train \
        --config "${lora_config}" "${training[@]}" --whisper "${whisper_dir}" \
        --language_model "${lm_dir}" --resume true --seed "${seed}" --ngpu "${ngpu}" \
        --output_dir "${expdir}/lora" "${lora_words[@]}"
fi

if wanted 6; then
    log "Stage 6: Export: ${expdir}/compact"
    ${python} -m espnet_prune compact export --train_dir "${expdir}/lora" \
        --output_dir "${expdir}/compact"
fi

if wanted 7; then
    log "Stage 7: Report: ${expdir}/RESULTS.md"
    ${python} -m espnet_prune compact report --model "${expdir}/compact" \
        --whisper "${whisper_dir}" ${encoder:+--encoder "${encoder}"} --language_model "${lm_dir}" \
        --data_dir "${datadir}/test" --most "${report_excerpts}" --output "${expdir}/RESULTS.md"
fi

log "Done."
