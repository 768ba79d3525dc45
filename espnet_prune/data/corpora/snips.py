"""Data directories of SUPERB's SF: Audio SNIPS, in the layout that s3prl's preparation leaves.

    <corpus>[/SNIPS]/all.iob.snips.txt
    <corpus>[/SNIPS]/{train,valid,test}/<speaker>-snips-<split>-<number>.wav

A line of all.iob.snips.txt has the utterance, its words between BOS and EOS, a tab, and as many
tags, the last of which is the intent:

    Ivy-snips-train-0 BOS PLAY ELLA FITZGERALD EOS<tab>O O artist artist PlayMusic

C.-I. Lai et al., "Semi-supervised spoken language understanding via self-supervised speech and
language model pretraining", 2021. Every speaker, a synthetic voice, speaks every sentence; SUPERB
keeps the speakers of the three splits apart (s3prl, downstream/ctc/snips.yaml).

The transcript to learn is a row of tokens: characters, `<space>` between words, and a token
`B-artist` before and `E-artist` after the value of a slot, without spaces of their own. As text it
reads `PLAY B-artist ELLA FITZGERALD E-artist`, see `tokens_to_text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.data.corpora import common

LABELS = "all.iob.snips.txt"
SPACE = "<space>"
OUTSIDE = "O"
#: Words that are not spoken; s3prl leaves them out of the transcripts, too.
PUNCTUATION = frozenset("?!.,;-")
#: Split -> its speakers in SUPERB.
SPEAKERS = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "valid": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}


def find_root(corpus: str | Path) -> Path:
    """The folder of all.iob.snips.txt, `corpus` or SNIPS in it."""
    advice = "SNIPS of db.sh names the directory that s3prl's preparation of Audio SNIPS wrote"
    return common.find_folder(corpus, "SNIPS", ("SNIPS", "."), [LABELS], advice)


def read_labels(path: str | Path) -> dict[str, tuple[list[str], list[str]]]:
    """Utterance -> its words and their tags, without the marks of begin and end and the intent."""
    labels = {}
    for key, value in data_dir.read_table(path).items():
        words, tags = (part.split() for part in value.partition("\t")[::2])
        if len(words) != len(tags) or len(words) < 3:
            number = f"{len(words)} words and {len(tags)} tags"
            text = f"has {number}; wanted are 'BOS WORD … EOS', a tab, and as many tags"
            raise ValueError(f"{path}: {key}: {text}")
        labels[key] = words[1:-1], tags[1:-1]
    return labels


def slots_of(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The stretches of words with the same slot: begin, end (exclusive) and name of the slot.

    A tag is O or the name of a slot; of the prefixes B- and I- that corpora of text have, B- begins
    another stretch.
    """
    begin, slot = 0, OUTSIDE
    for position, tag in enumerate([*tags, OUTSIDE]):
        name = tag[2:] if tag.startswith(("B-", "I-")) else tag
        if name == slot and not tag.startswith("B-"):
            continue
        if slot != OUTSIDE:
            yield begin, position, slot
        begin, slot = position, name


def tokens_of(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The tokens to learn of words with tags; `&` is spoken as AND."""
    before: dict[int, str] = {}
    after: dict[int, str] = {}
    spoken = [number for number, word in enumerate(words) if word not in PUNCTUATION]
    for begin, end, slot in slots_of(tags):
        inside = [number for number in spoken if begin <= number < end]
        if inside:
            before[inside[0]], after[inside[-1]] = f"B-{slot}", f"E-{slot}"
    tokens: list[str] = []
    for number in spoken:
        tokens += [before[number]] if number in before else []
        tokens += "AND" if words[number] == "&" else words[number]
        tokens += [after[number]] if number in after else []
        tokens.append(SPACE)
    return tokens[:-1]


def tokens_to_text(tokens: Iterable[str]) -> str:
    """Tokens, of a transcript or recognised, as the text that the slots are scored in."""
    apart = (f" {token} " if token.startswith(("B-", "E-")) else token for token in tokens)
    return " ".join("".join(" " if token == SPACE else token for token in apart).split())


def write_texts(source: str | Path, target: str | Path) -> None:
    """Write the table `target` with the texts of the table `source` of tokens."""
    table = data_dir.read_table(source)
    data_dir.write_table(target, {k: tokens_to_text(v.split()) for k, v in table.items()})


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories train, valid and test; returns their numbers of utterances."""
    root = find_root(corpus)
    labels = read_labels(root / LABELS)
    sets = {split: _read_split(root, split, labels) for split in SPEAKERS}
    return common.write_sets(out_dir, sets)


def _read_split(root: Path, split: str, labels: dict) -> list[common.Utterance]:
    folder, speakers = root / split, SPEAKERS[split]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; it has the recordings of {split}")
    paths = {path.stem: path for path in sorted(folder.rglob("*.wav"))}
    recordings = {key: path for key, path in paths.items() if _speaker(key) in speakers}
    absent = [each for each in speakers if each not in map(_speaker, recordings)]
    if absent:
        text = f"has no recordings {absent[0]}-*.wav; {', '.join(absent)} cannot be found"
        raise FileNotFoundError(f"{folder}: {text}")
    unlabelled = [key for key in recordings if key not in labels]
    if unlabelled:
        text = f"has no line for {len(unlabelled)} recordings in {folder}"
        raise ValueError(f"{root / LABELS}: {text}, the first is {unlabelled[0]}")
    texts = {key: " ".join(tokens_of(*labels[key])) for key in recordings}
    silent = [key for key, text in texts.items() if not text]
    if silent:
        raise ValueError(f"{root / LABELS}: {silent[0]}: has no words")
    listed = {key for key in labels if key.split("-")[2:3] == [split] and _speaker(key) in speakers}
    unspoken = sorted(listed - recordings.keys())
    if unspoken:
        number = f"{len(unspoken)} of {len(unspoken) + len(recordings)}"
        text = f"{number} utterances have no recording, the first is {unspoken[0]}"
        common.warn_incomparable(f"{folder}: {text}")
    return [common.Utterance(key, _speaker(key), texts[key], recordings[key]) for key in recordings]


def _speaker(utterance: str) -> str:
    return utterance.partition("-")[0]
