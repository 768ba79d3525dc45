"""Emotion recognition on IEMOCAP with four classes, in five folds.

    <corpus>/Session<1-5>/dialog/EmoEvaluation/<dialog>.txt
    <corpus>/Session<1-5>/sentences/wav/<dialog>/<utterance>.wav

C. Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", 2008. As usual,
the classes are angry, happy (with excited), neutral and sad; other utterances are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from espnet_prune.data.corpora import common
from espnet_prune.data.data_dir import drawn
from espnet_prune.files.reading import read_lines

CLASSES = {"ang": "ang", "hap": "hap", "exc": "hap", "neu": "neu", "sad": "sad"}
#: Session -> its utterances of the four classes, as published.
PUBLISHED = {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}
#: Share of the four training sessions that the checkpoint is chosen on, as in s3prl.
VALID_SHARE = 0.2
# [6.2901 - 8.2357]    Ses01F_impro01_F000    neu    [2.5000, 2.5000, 2.5000]
_LINE = re.compile(r"\[[\d.]+ - [\d.]+\]\t(Ses\d\d[FM]_\w+)\t(\w+)\t\[.*\]")


def read_session(corpus: str | Path, session: int) -> list[common.Utterance]:
    """The utterances of the four classes of a session; a speaker is named Ses01F."""
    root = Path(corpus) / f"Session{session}"
    folder = root / "dialog" / "EmoEvaluation"
    # Names of other systems' metadata files begin with a dot.
    files = sorted(folder.glob("Ses*.txt"))
    if not files:
        raise FileNotFoundError(f"{folder}: has no Ses*.txt; IEMOCAP of db.sh names the corpus")
    found = []
    for path in files:
        lines = map(str.strip, read_lines(path))
        rated = [match for line in lines if (match := _LINE.fullmatch(line))]
        if not rated:
            raise ValueError(f"{path}: has no line '[begin - end]\\tutterance\\temotion\\t[…]'")
        for utterance, emotion in (match.groups() for match in rated):
            if emotion not in CLASSES:
                continue
            dialog, _, turn = utterance.rpartition("_")
            audio = root / "sentences" / "wav" / dialog / f"{utterance}.wav"
            # Who talks is in the name of the turn: F000 or M000.
            speaker = f"Ses{session:02d}{turn[0]}"
            name = f"{speaker}-{utterance}"
            found.append(common.Utterance(name, speaker, CLASSES[emotion], audio))
    common.require_classes(folder, found, CLASSES.values())
    common.warn_unpublished(root, len(found), PUBLISHED[session], "utterances of the four classes")
    return found


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories of five folds; returns their numbers of utterances.

    ``test_foldN`` is session N; of the others ``valid_foldN`` is a fifth of the utterances, by a
    hash of their names, and ``train_foldN`` the rest.
    """

    def validation(others: list[common.Utterance]) -> set[str]:
        return set(drawn((each.name for each in others), round(VALID_SHARE * len(others))))

    corpus = common.require_dir(corpus, "IEMOCAP")
    sessions = [read_session(corpus, session) for session in PUBLISHED]
    return common.write_sets(out_dir, common.leave_one_out(sessions, validation))
