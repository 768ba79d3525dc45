# Query-by-example search, without training (stages 4 to 6 are left out): the train set are the
# documents, valid and test sets the queries, with <datadir>/<set>/ref, 'query documents that hold it'.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

criterion=

# The layer is chosen on the valid set.
task_inference() {
    ${python} -m espnet_prune.bin.qbe_inference --upstream "${upstream_dir}" --documents "${train}" \
        --queries "${valid_set}" "${valid}" --queries "$(basename "$2")" "$1" \
        --output_dir "$(dirname "$2")" "${inference_words[@]}"
}

task_score() {
    local file layer out args=()
    out=$(output_of "$1" "")
    for file in "${out}"/layer*.txt; do
        layer=$(basename "${file}" .txt)
        args+=(--scores "${layer}" "${file}")
        args+=(--dev_scores "${layer}" "$(output_of "${valid_set}" "")/${layer}.txt")
    done
    ${python} -m espnet_prune score twv --ref "${datadir}/$1/ref" --dev_ref "${datadir}/${valid_set}/ref" \
        "${args[@]}" --output_dir "$2"
}
