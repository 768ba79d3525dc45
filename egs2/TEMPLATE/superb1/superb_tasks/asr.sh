# Transcripts in words, phones or slots by CTC through ESPnet's task asr.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

train_module=espnet2.bin.asr_train
# SUPERB decodes greedily; an --inference_config is for ESPnet's beam search
inference_module=espnet_prune.bin.asr_greedy_inference
if [ -n "${inference_config}" ]; then inference_module=espnet2.bin.asr_inference; fi
criterion=cer_ctc.min

task_lists() {
    make_units "${train}/text" "${lists}"
}

task_data() {
    local part
    for part in train valid; do
        data+=("--${part}_data_path_and_name_and_type" "${!part}/text,text,text")
    done
    units_options data "${lists}"
}

task_inference() {
    local model=${probe}/best/${inference_model}
    local config=${probe}/best/config.yaml
    infer "$1" "$2" 1best_recog/text "${inference_module}" "${config}" "${model}" \
        --asr_train_config "${config}" --asr_model_file "${model}"
}

task_score() {
    local ref hyp scorer=text
    ref=$(set_of "$1" "")/text
    hyp=$(output_of "$1" "")/text
    case "${superb_task}" in
        PR) scorer=phones ;;
        SF)
            scorer=slots
            ${python} -m espnet_prune data slot-text "${ref}" "${hyp}.slots.ref"
            ${python} -m espnet_prune data slot-text "${hyp}" "${hyp}.slots"
            ref=${hyp}.slots.ref
            hyp=${hyp}.slots
            ;;
    esac
    ${python} -m espnet_prune score "${scorer}" --ref "${ref}" --hyp "${hyp}" --output_dir "$2"
}
