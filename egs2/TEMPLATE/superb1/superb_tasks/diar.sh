# Speaker diarisation through ESPnet's task diar; <datadir>/<set> has rttm, for scoring, and frame_labels,
# who talks in each frame of the encoder, for training.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

train_module=espnet2.bin.diar_train
inference_module=espnet_prune.bin.diar_inference
criterion=acc.max

task_lists() { :; }

task_data() {
    data+=(
        --train_data_path_and_name_and_type "${datadir}/${train_set}/frame_labels,spk_labels,text_int"
        --valid_data_path_and_name_and_type "${datadir}/${valid_set}/frame_labels,spk_labels,text_int"
    )
}

# Threshold and median filter are chosen on the valid set.
task_inference() {
    local dset model=${probe}/best/${inference_model} config=${probe}/best/config.yaml
    for dset in "${valid}" "$1"; do
        infer "${dset}" "$(dirname "$2")/$(basename "${dset}")" diarize.scp \
            "${inference_module}" "${config}" "${model}" \
            --train_config "${config}" --model_file "${model}"
    done
}

task_score() {
    ${python} -m espnet_prune score der --ref "${datadir}/$1/rttm" \
        --posteriors "$(output_of "$1" "")/diarize.scp" --dev_ref "${datadir}/${valid_set}/rttm" \
        --dev_posteriors "$(output_of "${valid_set}" "")/diarize.scp" \
        --frame_shift 0.02 --output_dir "$2"
}
