# What --debug true means in a probe's recipe. Sets what debug_option.sh does, ${suffix} of the small
# config's name, and the array ${defaults} for superb.sh. Source it first.
# shellcheck shell=bash
# shellcheck disable=SC2034

# shellcheck source=debug_option.sh
. ./debug_option.sh

suffix=
defaults=()
if "${debug}"; then
    suffix=_debug
    defaults=(--nj 1 --inference_nj 1 --dumpdir dump_debug --expdir exp_debug)
fi
