"""Files of answers: a header line, then a line of JSON for each item under each condition.

    {"speech_llm": …, "frame_tokens": 25, …}          what all answers of the file were made with
    {"id": …, "input": "speech", "strategy": "speechprune", "rate": 0.2, "keep": null,
     "seconds": 71.3, "audio_tokens": 1783, "kept_tokens": 600, "kept": "3-17,21",
     "order": [2, 0, 3, 1], "scores": [-1.2, …], "chosen": 1, "answer": 0, "spoken": "4-5,30"}

`order` has the numbers of the choices in the questions file in the order in which they were put to
the model; `scores`, `chosen` and `answer` are in this order. By the protocol `letter` there is
`said`, what the model has generated, instead of `scores`, and `chosen` is null where that names no
choice. `spoken` has the audio tokens that are words, where the speech LLM knows them; it stands
with the answer to the whole recording alone. `words` is what its own recogniser has heard, with the
answer to that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_prune.evaluate.sir.conditions import Condition
from espnet_prune.evaluate.sir.protocols import letter_said
from espnet_prune.files.growing import go_on, grow, read_grown

#: more tokens than any recording has: four days at 25 a second
MOST_TOKENS = 10**7
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Answer:
    """What a model answered to one question under one condition; see the module."""

    id: str
    condition: Condition
    seconds: float
    audio_tokens: int
    kept: tuple[int, ...]
    order: tuple[int, ...]
    scores: tuple[float, ...]
    answer: int
    said: str | None = None
    spoken: tuple[int, ...] | None = None
    words: str | None = None

    def __post_init__(self):
        if not all(math.isfinite(score) for score in self.scores):
            scores = ", ".join(f"{score:g}" for score in self.scores)
            raise ValueError(
                f"{self.id}: under condition '{self.condition.name}' the scores of its choices are "
                f"{scores}: the speech LLM's numbers are not finite; look at its weights and dtype"
            )

    @property
    def chosen(self) -> int | None:
        """Place of the most likely choice, the first one of equal ones; or of the one that was
        named, None where none was."""
        if self.said is not None:
            return letter_said(self.said, len(self.order))
        return self.scores.index(max(self.scores))

    @property
    def right(self) -> bool:
        return self.chosen == self.answer

    def to_json(self) -> dict:
        spoken = {} if self.spoken is None else {"spoken": to_ranges(self.spoken)}
        return {
            "id": self.id,
            **asdict(self.condition),
            "seconds": round(self.seconds, 4),
            "audio_tokens": self.audio_tokens,
            "kept_tokens": len(self.kept),
            "kept": to_ranges(self.kept),
            "order": self.order,
            **(
                {"scores": [round(score, 6) for score in self.scores]}
                if self.said is None
                else {"said": self.said}
            ),
            "chosen": self.chosen,
            "answer": self.answer,
            **spoken,
            **({} if self.words is None else {"words": self.words}),
        }

    @classmethod
    def from_json(cls, row: dict) -> Answer:
        return cls(
            condition=Condition(row["input"], row["strategy"], row["rate"], row["keep"]),
            kept=tuple(from_ranges(row["kept"])),
            order=tuple(row["order"]),
            scores=() if "said" in row else tuple(row["scores"]),
            said=row.get("said"),
            spoken=tuple(from_ranges(row["spoken"])) if "spoken" in row else None,
            words=row.get("words"),
            **{name: row[name] for name in ("id", "seconds", "audio_tokens", "answer")},
        )


def to_ranges(indices: Iterable[int]) -> str:
    """Rising whole numbers as ranges: 3, 4, 5, 9 is "3-5,9"."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index <= ranges[-1][1]:
            raise ValueError(f"{index} comes after {ranges[-1][1]}, but indices have to rise")
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def from_ranges(text: str) -> list[int]:
    """The numbers of `to_ranges` (ValueError: something that it does not write)."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text of ranges of indices")
    indices: list[int] = []
    for part in text.split(",") if text else []:
        found = _RANGE.fullmatch(part)
        if found is None:
            raise ValueError(f"'{part}' is not a range of indices")
        first, last = int(found[1]), int(found[2] or found[1])
        if last >= MOST_TOKENS:
            raise ValueError(f"'{part}' is beyond the {MOST_TOKENS} tokens that are looked at")
        indices += range(first, last + 1)
    return indices


class AnswerFile:
    """A file that grows while answers are computed, so that a stopped job goes on where it was.

    Args:
        path: `answers.NAME.jsonl`.
        header: what the answers depend on, as JSON can hold it (ValueError: an answers file of the
            directory was made with something else).
    """

    def __init__(self, path: str | Path, header: dict):
        self.path = Path(path)
        header = json.loads(json.dumps(header))
        #: (id, condition) of all answers, also those in files of other jobs: a job that is split
        #: otherwise when it is started again loses nothing
        self.done = set(_read_all(self.path.parent, header)[1])
        go_on(self.path, header)

    def add(self, answers: Iterable[Answer]) -> None:
        """Append answers; they are on disk when this returns."""
        grow(self.path, (answer.to_json() for answer in answers))


def read_answers(directory: str | Path) -> tuple[dict, list[Answer]]:
    """Header and answers of all `answers.*.jsonl` of a directory (FileNotFoundError: there are
    none; ValueError: a file is damaged, or they were made with different things).

    An answer that two jobs have computed is taken from the first file.
    """
    header, answers = _read_all(Path(directory))
    if not answers:
        raise FileNotFoundError(f"{directory}: no answers in it; run sir_inference first")
    return header, list(answers.values())


def _read_all(directory: Path, header: dict | None = None) -> tuple[dict, dict[tuple, Answer]]:
    """The same, with answers by id and condition; all files have to have the header."""
    answers: dict[tuple, Answer] = {}
    for file in sorted(directory.glob("answers.*.jsonl")):
        found = read_grown(file)
        if found is None:
            continue
        own, rows = found
        if not isinstance(own, dict):
            raise ValueError(f"{file}: not a file of answers (it has no header); remove it")
        header = header or own
        differ = ", ".join(key for key in {**header, **own} if own.get(key) != header.get(key))
        if differ:
            remove = "remove it or give another --output_dir"
            raise ValueError(f"{file}: was made with another {differ}; {remove}")
        try:
            for answer in map(Answer.from_json, rows):
                answers.setdefault((answer.id, answer.condition), answer)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: not a file of answers ({error}); remove it") from None
    return header, answers
