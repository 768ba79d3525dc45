# Speaker verification through ESPnet's task spk; <datadir>/<set>/trials lists the trials of a set.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

train_module=espnet2.bin.spk_train
inference_module=espnet_prune.bin.spk_inference
criterion=eer.min # on the valid set's trials

task_lists() {
    ${python} -m espnet_prune data trial-pairs "${valid}" "${datadir}/${valid_set}/trials" \
        "${valid}_trials"
}

task_data() {
    valid+=_trials # ESPnet validates on pairs of utterances
    data+=(
        --train_data_path_and_name_and_type "${train}/utt2spk,spk_labels,text"
        --valid_data_path_and_name_and_type "${valid}/speech2,speech2,${speech_type}"
        --valid_data_path_and_name_and_type "${valid}/spk_labels,spk_labels,text"
        --spk2utt "${train}/spk2utt" --spk_num "$(wc -l < "${train}/spk2utt")"
    )
}

# checkpoints: the other epochs that are kept, for SUPERB's habit of taking the best on the test set.
checkpoints() {
    local file best
    best=$(readlink "${probe}/best/${inference_model}" || true)
    for file in "${probe}"/best/[0-9]*epoch.pth; do
        if [ "$(basename "${file}")" != "${best}" ]; then basename "${file}" .pth; fi
    done
}

task_inference() {
    local other model=${probe}/best/${inference_model} config=${probe}/best/config.yaml
    infer "$1" "$2" embed.scp "${inference_module}" "${config}" "${model}" \
        --train_config "${config}" --model_file "${model}"
    for other in $(checkpoints); do
        model=${probe}/best/${other}.pth
        infer "$1" "$2/${other}" embed.scp "${inference_module}" "${config}" "${model}" \
            --train_config "${config}" --model_file "${model}"
    done
}

task_score() {
    local out other others=()
    use_fold ""
    out=$(output_of "$1" "")
    for other in $(checkpoints); do others+=("${out}/${other}/embed.scp"); done
    ${python} -m espnet_prune score eer --trials "${datadir}/$1/trials" \
        --embeddings "${out}/embed.scp" --utt2spk "$(set_of "$1" "")/utt2spk" \
        ${others[@]:+--other_embeddings "${others[@]}"} --output_dir "$2"
}
