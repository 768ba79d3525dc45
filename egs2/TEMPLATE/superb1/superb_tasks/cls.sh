# Classification of utterances through ESPnet's task cls: the label is the text of an utterance.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

train_module=espnet2.bin.cls_train
inference_module=espnet2.bin.cls_inference
criterion=acc.max

task_lists() {
    local dset others=("${valid}")
    for dset in "${tests[@]}"; do others+=("$(set_of "${dset}" "${fold}")"); done
    ${python} -m espnet_prune superb labels --slots "${label_slots}" \
        --train "${train}" --others "${others[@]}" --output_dir "${lists}"
}

task_data() {
    local part
    for part in train valid; do
        data+=("--${part}_data_path_and_name_and_type" "${!part}/text,label,text")
    done
    data+=(--token_list "${lists}/labels.txt")
    if "${label_slots}"; then data+=(--decoder_conf "slot_sizes=$(cat "${lists}/slot_sizes")"); fi
}

task_inference() {
    local model=${probe}/best/${inference_model}
    local config=${probe}/best/config.yaml
    infer "$1" "$2" prediction/text "${inference_module}" "${config}" "${model}" \
        --classification_train_config "${config}" --classification_model_file "${model}"
}

task_score() {
    local fold references=() hypotheses=()
    for fold in "${fold_words[@]}"; do
        references+=("$(set_of "$1" "${fold}")/text")
        hypotheses+=("$(output_of "$1" "${fold}")/text")
    done
    ${python} -m espnet_prune score accuracy --ref "${references[@]}" --hyp "${hypotheses[@]}" \
        --output_dir "$2"
}
