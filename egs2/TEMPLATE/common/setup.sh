#!/usr/bin/env bash
# Make a new recipe, as ESPnet's TEMPLATE/*/setup.sh do.
# usage: egs2/TEMPLATE/common/setup.sh ssl_prune1|superb1|sir1 egs2/<corpus>/<task>
set -e
set -u
set -o pipefail

fail() {
    echo "$0: error: $*" >&2
    exit 2
}

templates=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -ne 2 ]; then fail "usage: $0 ssl_prune1|superb1|sir1 egs2/<corpus>/<task>"; fi
case "$1" in
    ssl_prune1)
        script=ssl_prune.sh
        options=("--teacher openai/whisper-tiny.en" "--train_set train" "--valid_set valid"
            "--prune_config conf/prune.yaml" "--distill_config conf/distill.yaml")
        configs=(voice_prompts/ssl_prune1/conf/{prune,distill}.yaml)
        sets="train and valid"
        ;;
    superb1)
        script=superb.sh
        options=("--superb_task KS" "--espnet_task cls" "--train_set train" "--valid_set valid"
            "--test_sets test" "--config conf/train_probe.yaml")
        configs=(fsdd/superb_ks1/conf/train_probe.yaml)
        sets="train, valid and test"
        ;;
    sir1)
        script=sir.sh
        options=("--test_sets test")
        configs=(TEMPLATE/sir1/conf/sir_{compact,diva,qwen2_audio}.yaml)
        sets="test"
        ;;
    *) fail "there is no template '$1', choose ssl_prune1, superb1 or sir1" ;;
esac
mkdir -p "$(dirname "$2")"
recipe=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
if [ "$(dirname "$(dirname "${recipe}")")" != "$(dirname "${templates}")" ]; then
    fail "$2 is not a directory egs2/<corpus>/<task>"
fi
if [ -e "${recipe}" ]; then fail "$2 is there already"; fi

mkdir -p "${recipe}/conf" "${recipe}/local"
ln -s ../../TEMPLATE "${recipe}/template"
for config in "${configs[@]}"; do cp "$(dirname "${templates}")/${config}" "${recipe}/conf"; done
# shellcheck disable=SC2016
{
    printf '%s\n' '#!/usr/bin/env bash' '# What this recipe does; --help shows all options.' \
        'set -e' 'set -u' 'set -o pipefail' '' \
        '# shellcheck source=template/common/options.sh' '. template/common/options.sh' ''
    printf '%s \\\n' "exec template/$1/${script}"
    printf '    %s \\\n' "${options[@]}"
    printf '    "$@"\n'
} > "${recipe}/run.sh"
# shellcheck disable=SC2016
printf '%s\n' '#!/usr/bin/env bash' '# Data directories of the corpus (db.sh says where it is).' \
    'set -e' 'set -u' 'set -o pipefail' '' \
    '# shellcheck source=../template/common/local_data.sh' \
    '. template/common/local_data.sh' '' \
    "# Make ${sets} below \${datadir}, in Kaldi's format." \
    '# `python3 -m espnet_prune corpus --help` lists the corpora that are there.' \
    'echo "$0: error: write this file" >&2' 'exit 1' > "${recipe}/local/data.sh"
chmod +x "${recipe}/run.sh" "${recipe}/local/data.sh"
echo "$2: write local/data.sh, then run.sh and conf/"
