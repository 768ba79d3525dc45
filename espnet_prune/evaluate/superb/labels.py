"""The classes of SUPERB's classification tasks, as ESPnet's task cls wants them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.common import SLOT_SEPARATOR
from espnet_prune.files.writing import write_text

UNKNOWN = "<unk>"  # ESPnet's task cls wants it last


def read_labels(folder: str | Path) -> data_dir.Table:
    """Utterance -> label, from a data directory's text (ValueError: no utterances, or a label that
    is empty, of several words or `UNKNOWN`)."""
    path = Path(folder) / "text"
    labels = data_dir.read_table(path)
    if not labels:
        raise ValueError(f"{path}: is empty; prepare the directory again")
    for utterance, label in labels.items():
        if len(label.split()) != 1:
            what = f"'{label}' has several words" if label else "has no label"
            raise ValueError(f"{path}: {utterance}: {what}; one word is a label")
        if label == UNKNOWN:
            raise ValueError(f"{path}: {utterance}: {UNKNOWN} is ESPnet's own; rename the label")
    return labels


def class_list(
    train: str | Path, others: Sequence[str | Path], slots: bool = False
) -> tuple[list[str], tuple[int, ...]]:
    """The sorted classes of the training data, and the numbers of values of each slot.

    With `slots` a label is ``value+value+…``, a value for each slot, and the classes are all
    combinations of the values that each slot has in the training data. The last slot changes
    fastest, as `espnet_prune.plugin.probes.slots.SlotDecoder` wants it.

    Args:
        train: its data directory.
        others: data directories in which no other class, or value of a slot, may be.
    Raises:
        FileNotFoundError, ValueError: as `read_labels`; fewer than two classes; a class or value
            that is not in the training data; or a label with another number of slots.
    """
    values: list[list[str]] = []
    for folder in (train, *others):
        path, labels = Path(folder) / "text", read_labels(folder).values()
        found = [label.split(SLOT_SEPARATOR) if slots else [label] for label in labels]
        number = len(values) or len(found[0])
        for each in found:
            if len(each) != number or not all(each):
                label = SLOT_SEPARATOR.join(each)
                raise ValueError(f"{path}: '{label}' has not {number} values")
        columns = [Counter(column) for column in zip(*found, strict=True)]
        values = values or [sorted(column) for column in columns]
        for place, (known, column) in enumerate(zip(values, columns, strict=True), 1):
            for unseen in sorted(column.keys() - set(known)):
                what = f"value {unseen} of slot {place}" if slots else f"class {unseen}"
                raise ValueError(
                    f"{path}: {what}, of {column[unseen]} utterances, is not in {train}/text; "
                    "add training data, or leave these utterances out"
                )
    classes = [SLOT_SEPARATOR.join(each) for each in itertools.product(*values)]
    if len(classes) < 2:
        raise ValueError(f"{Path(train) / 'text'}: only the class {classes[0]}; two are needed")
    return classes, tuple(len(column) for column in values)


def write_labels(
    train: str | Path, others: Sequence[str | Path], output_dir: str | Path, slots: bool = False
) -> str:
    """Write what ESPnet's task cls needs about the classes; returns a line about them.

    ``labels.txt`` in `output_dir` has the classes, `<unk>` last; with `slots`, ``slot_sizes`` has
    the numbers of values, as ``[6,14,4]``. ``category2utt`` in `train` has the utterances of each
    class, for ESPnet's batches in which the classes are balanced.

    Errors are those of `class_list`.
    """
    output = Path(output_dir) / "labels.txt"
    classes, sizes = class_list(train, others, slots)
    if slots:
        write_text(output.with_name("slot_sizes"), f"[{','.join(map(str, sizes))}]\n")
    by_class = data_dir.speaker_utterances(read_labels(train))
    data_dir.write_table(Path(train) / "category2utt", by_class)
    write_text(output, "\n".join([*classes, UNKNOWN]) + "\n")
    return f"{output}: {len(classes)} classes"
