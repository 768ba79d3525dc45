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


def lexicon(path: Path) -> Path:
    """A lexicon of WORDS that spells them: the phones of CAT are C0 A1 T2; returns `path`."""
    lines = [" ".join([word, *(f"{c}{n}" for n, c in enumerate(word))]) for word in WORDS]
    path.write_text("\n".join(lines) + "\n")
    return path


def snips(corpus: Path, sentences: int = 1, seconds: float = 1.5) -> Path:
    """Audio SNIPS: 16 speakers who speak every sentence of all three splits; returns `corpus`."""
    speakers = "Aditi Amy Brian Emma Geraint Ivy Joanna Joey".split()
    speakers += "Justin Kendra Kimberly Matthew Nicole Raveena Russell Salli".split()
    generator = np.random.default_rng(0)
    lines = []
    for split in ("train", "valid", "test"):
        folder = corpus / "SNIPS" / split
        folder.mkdir(parents=True)
        for number in range(sentences):
            words = " ".join(generator.choice(WORDS, 1 + number))
            tags = " ".join(["artist"] * (1 + number))
            for speaker in speakers:
                name = f"{speaker}-snips-{split}-{number}"
                lines.append(f"{name} BOS PLAY {words} NOW ! EOS\tO O {tags} O O PlayMusic\n")
                speech = 0.1 * generator.normal(size=int(16000 * seconds))
                soundfile.write(folder / f"{name}.wav", speech, 16000)
    (corpus / "SNIPS" / "all.iob.snips.txt").write_text("".join(sorted(lines)))
    return corpus
