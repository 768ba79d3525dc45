"""Speaker diarisation on Libri2Mix, from the metadata that its generation writes.

    <corpus>[/Libri2Mix]/wav16k/max/metadata/mixture_<part>_mix_both.csv
    <corpus>[/Libri2Mix]/wav16k/max/<part>/mix_both/<mixture>.wav
    <rttm_dir>/train_clean_100.rttm, dev_clean.rttm, test_clean.rttm

J. Cosentino et al., "LibriMix: an open-source dataset for generalizable speech separation", 2020;
parts are train-100 (train in SUPERB's fork of the generation), dev and test. As in SUPERB
(its fork's scripts/prepare_diarization.py) these are the mixtures with noise, and who talks when
comes from forced alignments of LibriSpeech: RTTM files, in the fork's metadata/LibriSpeech, with
times in each source utterance. Both sources of a mixture begin at its first sample.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_prune.data import data_dir
from espnet_prune.data.audio import SAMPLING_RATE as RATE
from espnet_prune.data.audio import written_samples
from espnet_prune.data.corpora import common
from espnet_prune.data.rttm import Turn, read_rttm, rttm_text
from espnet_prune.files.writing import write_text

#: Samples of a frame: 20 ms, as of the encoders.
FRAME = 320
#: Data directory -> names of the part, RTTM file, and mixtures as published.
PARTS = {
    "train": (("train-100", "train"), "train_clean_100", 13900),
    "dev": (("dev",), "dev_clean", 3000),
    "test": (("test",), "test_clean", 3000),
}
#: Alignments may go on this long after the end of the audio.
_TOLERANCE_S = 0.1


def find_root(corpus: str | Path) -> Path:
    """The folder wav16k/max of Libri2Mix."""
    folders = ("Libri2Mix/wav16k/max", "wav16k/max", ".")
    holds = ["metadata/mixture_*.csv"]  # the alignments may be in a folder metadata, too
    advice = "generate it at 16 kHz in mode max"
    return common.find_folder(corpus, "LIBRIMIX", folders, holds, advice)


def read_mixtures(root: Path, names: tuple[str, ...]) -> dict[str, tuple[Path, int]]:
    """Mixture -> its audio and number of samples, from a part's metadata.

    Audio that is missing is an error, as is audio of another length.
    """
    tables = {name: root / "metadata" / f"mixture_{name}_mix_both.csv" for name in names}
    part = next((name for name in names if tables[name].is_file()), names[0])
    advice = "generate mixtures of type mix_both"
    rows = common.read_csv(tables[part], ("mixture_ID", "length"), advice)
    mixtures = {}
    for place, row in tqdm(rows, str(tables[part]), mininterval=2):
        try:
            name, samples = row["mixture_ID"], int(row["length"])
            first, second = speakers_of(name)
        except ValueError:
            raise ValueError(f"{place}: not the metadata of a mixture of two") from None
        if first == second:
            raise ValueError(f"{place}: {name}: both sources are of one speaker")
        path = root / part / "mix_both" / f"{name}.wav"
        found = written_samples(path, RATE)
        if found != samples:
            text = f"has {found or 'no readable'} samples at {RATE} Hz, but the metadata say"
            raise ValueError(f"{path}: {text} {samples}; generate Libri2Mix again")
        mixtures[name] = (path, samples)
    if not mixtures:
        raise ValueError(f"{tables[part]}: has no mixture")
    return mixtures


def speakers_of(mixture: str) -> list[str]:
    """The speakers of a mixture <speaker>-<chapter>-<number>_<speaker>-<chapter>-<number>."""
    return [source.partition("-")[0] for source in mixture.split("_")]


def turns_of(mixture: str, alignments: dict[str, list[Turn]], end: float) -> list[Turn]:
    """Who talks when in a mixture.

    Args:
        mixture: its name, <source>_<source> with <speaker>-<chapter>-<number> each.
        alignments: turns of each source, named with or without its speaker.
        end: of the mixture, in seconds; later ends of turns are cut there.

    A source without turns, with those of another speaker, or after the end is a ValueError.
    """
    turns = []
    for source in mixture.split("_"):
        speaker, _, rest = source.partition("-")
        found = alignments.get(source) or alignments.get(rest)
        if not found:
            raise ValueError(f"has no turns of {rest}, a source of mixture {mixture}")
        for turn in found:
            if turn.speaker != speaker:
                of = f"is of speaker {turn.speaker}"
                raise ValueError(f"{rest} {of}, but {mixture} says {speaker}")
            if turn.end > end + _TOLERANCE_S or turn.begin >= end:
                text = f"talks until {turn.end:g} s, but mixture {mixture} ends at {end:g} s"
                raise ValueError(f"{rest} {text}; generate Libri2Mix in mode max")
            turns.append(turn._replace(end=min(turn.end, end)))
    return turns


def frame_labels(turns: list[Turn], speakers: list[str], samples: int) -> np.ndarray:
    """Who talks in each frame, as one number: speaker k of the list counts 2^k.

    Frame i has the samples from i to i + 1 times `FRAME`, which is also the stretch of time that a
    prediction for frame i is scored on. A speaker talks in it if in most of its samples. The last
    frame may be short; it counts as if silence followed.

    Args:
        turns: in seconds.
        speakers: in the order of the bits.
        samples: of the recording.

    Returns: integers of shape (frames,).
    """
    frames = -(-samples // FRAME)
    labels = np.zeros(frames, dtype=int)
    for bit, speaker in enumerate(speakers):
        active = np.zeros(frames * FRAME, dtype=bool)
        for turn in turns:
            if turn.speaker == speaker:
                active[round(turn.begin * RATE) : round(turn.end * RATE)] = True
        labels |= (2 * active.reshape(frames, FRAME).sum(axis=1) > FRAME).astype(int) << bit
    return labels


def prepare(
    corpus: str | Path, out_dir: str | Path, rttm_dir: str | Path | None = None
) -> dict[str, int]:
    """Write the data directories train, dev and test, and return their numbers of mixtures.

    Beside wav.scp and utt2spk (each mixture is a speaker of its own) they get rttm, for scoring,
    and the table frame_labels, for training, see there. (ESPnet's data type rttm fails in release
    202511, on a wrong type annotation.)

    Args:
        rttm_dir: folder of the alignments; <corpus>/metadata/LibriSpeech by default.
    """
    root, out_dir = find_root(corpus), Path(out_dir)
    rttm_dir = Path(rttm_dir) if rttm_dir else Path(corpus) / "metadata" / "LibriSpeech"
    numbers: dict[str, int] = {}
    for part, (names, rttm, published) in PARTS.items():
        path = rttm_dir / f"{rttm}.rttm"
        advice = "--rttm_dir names metadata/LibriSpeech of SUPERB's fork of LibriMix"
        alignments = read_rttm(path, advice)
        mixtures = read_mixtures(root, names)
        common.warn_unpublished(root, len(mixtures), published, f"mixtures of {part}")
        try:
            turns = {
                name: turns_of(name, alignments, samples / RATE)
                for name, (_, samples) in mixtures.items()
            }
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        data_dir.require_ours(out_dir / part)
        data_dir.claim(out_dir / part)
        write_text(out_dir / part / "rttm", rttm_text(turns))
        labels = {
            name: " ".join(map(str, frame_labels(turns[name], speakers_of(name), samples)))
            for name, (_, samples) in mixtures.items()
        }
        chosen = [common.Utterance(name, name, "", file) for name, (file, _) in mixtures.items()]
        tables = {part: {"frame_labels": labels}}
        numbers |= common.write_sets(out_dir, {part: chosen}, tables=tables)
    return numbers
