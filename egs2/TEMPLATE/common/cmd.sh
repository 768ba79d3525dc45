# Where jobs run. Set cmd_backend to "slurm" to submit them; options of the queue go into the
# commands, e.g. "slurm.pl --mem 16G --time 1-0". ESPnet asks for no processors when it trains on one
# node: say how many its GPUs and their loaders need, cuda_cmd="slurm.pl --num_threads 20".
# shellcheck shell=bash

cmd_backend="${cmd_backend:-local}"
case "${cmd_backend}" in
    local)
        export train_cmd="run.pl" cuda_cmd="run.pl" decode_cmd="run.pl"
        ;;
    slurm)
        export train_cmd="slurm.pl" cuda_cmd="slurm.pl" decode_cmd="slurm.pl"
        ;;
    *)
        echo "cmd.sh: error: cmd_backend is '${cmd_backend}', choose local or slurm" >&2
        return 1
        ;;
esac
# The folder of run.pl and slurm.pl, by its path: jobs run in other directories, too
PATH="$(cd template/common && pwd):${PATH}"
export PATH
