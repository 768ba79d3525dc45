"""mini_an4: eight recordings of CMU's AN4, which come with ESPnet (3 has them in its wheel).

<corpus>/an4/etc/an4_{train,test}.transcription: "<s> YES </s> (an251-fash-b)"
<corpus>/an4/wav/{an4_clstk,an4test_clstk}/fash/an251-fash-b.sph, 16 kHz
"""

from __future__ import annotations

import re
from pathlib import Path

from espnet_prune.data.corpora import common

_LINE = re.compile(r"(?:<s> )?(?P<text>.+?)(?: </s>)? \((?P<name>\w+-\w+-\w+)\)")
#: set of the corpus -> folder of its recordings
_FOLDERS = {"train": "an4_clstk", "test": "an4test_clstk"}


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Sets ``train``, ``valid`` and ``test``; ``valid`` is the first recording of the training set,
    as in ESPnet's own recipe."""
    advice = "unpack downloads.tar.gz of ESPnet's recipe mini_an4 there"
    an4 = common.find_folder(corpus, "AN4", ("an4", "."), ["etc/an4_train.transcription"], advice)
    sets = {name: _read(an4, name) for name in _FOLDERS}
    train = sorted(sets["train"], key=lambda each: each.name)
    return common.write_sets(out_dir, {**sets, "valid": train[:1], "train": train[1:]})


def _read(an4: Path, name: str) -> list[common.Utterance]:
    found = []
    for place, words in common.read_fields(an4 / "etc" / f"an4_{name}.transcription"):
        match = _LINE.fullmatch(" ".join(words))
        if match is None:
            raise ValueError(f"{place}: is not 'WORDS (utterance-speaker-letter)'")
        utterance, speaker, letter = match["name"].split("-")
        path = an4 / "wav" / _FOLDERS[name] / speaker / f"{match['name']}.sph"
        key = f"{speaker}-{utterance}-{letter}"
        found.append(common.Utterance(key, speaker, match["text"], path))
    return found
