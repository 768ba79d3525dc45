"""Stand-ins for VoxCeleb1, Libri2Mix and QUESST 2014: their layouts, with tones and noise."""

from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile


def tone(generator, pitch: float, seconds: float, rate: int = 16000) -> np.ndarray:
    """A voice: a tone of this pitch in Hz, with its overtones and some noise."""
    time = np.arange(round(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * pitch * n * time) / n for n in (1, 2, 3))
    return 0.15 * voice + 0.01 * generator.normal(size=len(time))


def voxceleb1(
    corpus: Path, training: int = 6, test: int = 3, utterances: int = 2, seconds: float = 1.2
) -> Path:
    """Speakers with two videos each and so many utterances in each; all pairs of the test ones are
    trials. Returns `corpus`."""
    generator = np.random.default_rng(0)
    files = {}
    for number in range(training + test):
        speaker = f"id1{number:04d}"
        for video in ("a-B_1", "-cD2"):
            for n in range(1, utterances + 1):
                relative = f"{speaker}/{video}/{n:05d}.wav"
                path = corpus / ("dev" if number < training else "test") / "wav" / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                length = seconds * generator.uniform(0.8, 1.2)
                soundfile.write(path, tone(generator, 90 + 25 * number, length), 16000)
                if number >= training:
                    files[relative] = speaker
    lines = [
        f"{int(files[first] == files[second])} {first} {second}\n"
        for first, second in combinations(files, 2)
    ]
    (corpus / "veri_test.txt").write_text("".join(lines))
    return corpus


def librimix(corpus: Path, mixtures: int = 4, seconds: float = 1.5) -> Path:
    """All parts of Libri2Mix, and alignments; returns `corpus`."""
    generator = np.random.default_rng(0)
    root = corpus / "Libri2Mix" / "wav16k" / "max"
    rttms = corpus / "metadata" / "LibriSpeech"
    for folder in (root / "metadata", rttms):
        folder.mkdir(parents=True)
    parts = {"train-100": "train_clean_100", "dev": "dev_clean", "test": "test_clean"}
    for place, (part, rttm) in enumerate(parts.items()):
        folder = root / part / "mix_both"
        folder.mkdir(parents=True)
        rows = ["mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length\n"]
        lines = []
        for number in range(mixtures):
            samples = round(16000 * seconds * generator.uniform(0.9, 1.1))
            sources, audio = [], np.zeros(samples)
            for speaker in (10 + place, 20 + place):
                chapter = f"{speaker + 500}-{number:04d}"
                begin = 0.1 * int(generator.integers(0, 4))
                end = begin + 0.1 * int(generator.integers(5, 9))
                lines.append(
                    f"SPEAKER {chapter} 1 {begin:.2f} {end - begin:.2f} <NA> <NA> {speaker} <NA> "
                    "<NA>\n"
                )
                speech = tone(generator, 5 * speaker, end - begin)
                first = round(16000 * begin)
                audio[first : first + len(speech)] += speech
                sources.append(f"{speaker}-{chapter}")
            name = "_".join(sources)
            soundfile.write(folder / f"{name}.wav", audio, 16000)
            rows.append(f"{name},/elsewhere/{name}.wav,s1,s2,noise,{samples}\n")
        (root / "metadata" / f"mixture_{part}_mix_both.csv").write_text("".join(rows))
        (rttms / f"{rttm}.rttm").write_text("".join(lines))
    return corpus


def quesst14(corpus: Path, documents: int = 6, queries: int = 2, seconds: float = 1.0) -> Path:
    """English documents and queries at 8 kHz, and a Czech one of each; returns `corpus`.

    Query n of dev (eval) is a part of document n (documents - 1 - n).
    """
    generator = np.random.default_rng(0)
    root = corpus / "quesst14Database"
    for folder in ("Audio", "dev_queries", "eval_queries", "scoring"):
        (root / folder).mkdir(parents=True)
    audio = {}
    lines = {"utterances": [], "dev": [], "eval": []}
    for number in range(documents + 1):
        name = f"quesst14_{number:05d}"
        sweep = np.cumsum(generator.uniform(200, 3000, round(10 * seconds)).repeat(800)) / 8000
        audio[name] = 0.2 * np.sin(2 * np.pi * sweep) + 0.01 * generator.normal(size=len(sweep))
        soundfile.write(root / "Audio" / f"{name}.wav", audio[name], 8000)
        language = "nnenglish" if number < documents else "czech"
        lines["utterances"].append(f"quesst14Database/Audio/{name}.wav {language}\n")
    for part in ("dev", "eval"):
        truth = root / "scoring" / f"groundtruth_quesst14_{part}"
        truth.mkdir()
        events = ["SPKR-INFO quesst14_00000 1 <NA> <NA> <NA> unknown speaker <NA>\n"]
        for number in range(queries + 1):
            held = number if part == "dev" else documents - 1 - number
            name, document = f"quesst14_{part}_{number:04d}", f"quesst14_{held:05d}"
            language = "nnenglish" if number < queries else "czech"
            query = audio[document][1600 : 1600 + 4000]
            soundfile.write(root / f"{part}_queries" / f"{name}.wav", query, 8000)
            lines[part].append(f"quesst14Database/{part}_queries/{name}.wav {language}\n")
            # The Czech document holds every query, too.
            for holder in (document, f"quesst14_{documents:05d}"):
                events.append(f"LEXEME {holder} 1 0.2 0.5 {name} lex <NA> <NA>\n")
        (truth / f"quesst14_{part}.rttm").write_text("".join(events))
    for part, listed in lines.items():
        (root / "scoring" / f"language_key_{part}.lst").write_text("".join(listed))
    return corpus
