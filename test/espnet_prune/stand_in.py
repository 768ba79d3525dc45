"""Stand-ins for corpora: their layout, with a few utterances of seeded tones and noise."""

from pathlib import Path

import numpy as np
import soundfile

WORDS = "AND BUT DOWN EVER FROM GRAY HOUSE INTO JUST KIND LIGHT MORE".split()


def librispeech(corpus: Path, utterances: int = 2, seconds: float = 1.5) -> Path:
    """All subsets of LibriSpeech, two readers with a chapter each; returns `corpus`."""
    subsets = ("train-clean-100", "train-clean-360", "train-other-500")
    subsets += ("dev-clean", "dev-other", "test-clean", "test-other")
    generator = np.random.default_rng(0)
    for number, subset in enumerate(subsets):
        for reader in (100 + 2 * number, 101 + 2 * number):
            name = f"{reader}-{reader + 5000}"
            folder = corpus / "LibriSpeech" / subset / name.replace("-", "/")
            folder.mkdir(parents=True)
            lines = []
            for n in range(utterances):
                samples = int(16000 * seconds * generator.uniform(0.8, 1.2))
                tone = np.sin(np.arange(samples) * generator.uniform(0.05, 0.5))
                speech = 0.2 * tone + 0.05 * generator.normal(size=samples)
                soundfile.write(folder / f"{name}-{n:04d}.flac", speech, 16000)
                lines.append(f"{name}-{n:04d} {' '.join(generator.choice(WORDS, 3))}\n")
            (folder / f"{name}.trans.txt").write_text("".join(lines))
    return corpus
