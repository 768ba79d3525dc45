"""Excerpts of written passages as synthetic speech, to train a speech language model on.

An excerpt is some sentences of a passage in one voice; in a share of them a fact is hidden, with a
question about it and four choices. Facts are invented from the templates of facts.yaml; none comes
from a test set.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import write_table
from espnet_prune.data.sir.items import SirItem
from espnet_prune.data.sir.questions import write_questions
from espnet_prune.data.sir.speech import cast, write_data_dir
from espnet_prune.data.voices import EVALUATION_VOICES, NATURAL_VOICES, TRAINING_VOICES, Voices
from espnet_prune.files.reading import package_table
from espnet_prune.speech_llm.compact.passages import read_passages

#: table of a data directory: which voice speaks an excerpt
UTT2VOICE = "utt2voice"
#: who speaks all of it
SPEAKER = "speaker"
#: of the training voices
SPEEDS = (0.9, 1.0, 1.15)
#: of the sentences of an excerpt, before a fact comes to them: 10 to 17 s with pauses and a fact
EXCERPT_SECONDS = 10.5


@functools.cache
def invention() -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    """Values by kind, and templates (sentence, question, answer), see facts.yaml."""
    found = package_table(__package__, "facts.yaml")
    return found["values"], found["templates"]


@dataclass(frozen=True)
class Fact:
    """A sentence, a question about it, four choices, and the number of the right one."""

    sentence: str
    question: str
    choices: tuple[str, ...]
    answer: int


def invent(seed: str) -> Fact:
    """A fact, drawn by `seed`; the wrong choices are other values of the same kind."""
    known_values, templates = invention()
    draw = random.Random(f"fact {seed}")
    template = draw.choice(templates)
    kind = template["answer"].partition("{=")[2].partition("}")[0]
    values = draw.sample(known_values[kind], 4)
    known = {
        other: draw.choice([value for value in those if value not in values])
        for other, those in known_values.items()
        if f"{{{other}}}" in template["sentence"] + template["question"]
    }

    def fill(text: str, answer: str) -> str:
        text = text.replace(f"{{={kind}}}", answer)
        for other, value in known.items():
            text = text.replace(f"{{{other}}}", value)
        return text[0].upper() + text[1:]

    right = draw.randrange(4)
    values[0], values[right] = values[right], values[0]
    choices = tuple(fill(template["answer"], value) for value in values)
    sentence, question = (fill(template[part], values[right]) for part in ("sentence", "question"))
    return Fact(sentence, question, choices, right)


def hide(sentences: Sequence[str], fact: Fact, seed: str) -> tuple[list[str], int]:
    """Put the fact's sentence between others, at a place drawn by `seed`.

    Returns: all sentences, and the number of the fact's.
    """
    place = random.Random(f"place {seed}").randrange(len(sentences) + 1)
    return [*sentences[:place], fact.sentence, *sentences[place:]], place


def speak_at_speed(voices: Voices, text: str, voice: str) -> np.ndarray:
    """`Voices` with a speed in the voice's name, "rms@1.15"; 1.0 without one."""
    name, _, speed = voice.partition("@")
    return voices(text, name, float(speed or 1.0))


def cut(
    passages: Iterable[Sequence[str]], seconds: float, words_a_second: float = 2.8
) -> Iterator[list[str]]:
    """Consecutive sentences of a passage that take about `seconds` to speak."""
    most = seconds * words_a_second
    for sentences in passages:
        excerpt: list[str] = []
        words = 0
        for sentence in sentences:
            count = len(sentence.split())
            if excerpt and words + count > most:
                yield excerpt
                excerpt, words = [], 0
            excerpt.append(sentence)
            words += count
        if excerpt:
            yield excerpt


def excerpt_items(
    passages: Iterable[Sequence[str]], prefix: str, fact_share: float, seed: int = 0
) -> list[SirItem]:
    """Excerpts with ids of a prefix, a fact hidden in a share of them; the others have an empty
    question and no choices."""
    items = []
    for number, sentences in enumerate(cut(passages, EXCERPT_SECONDS)):
        name = f"{prefix}_{number:06d}"
        draw = f"{seed} {name}"
        place = 0
        asked: tuple[str, tuple[str, ...], int] = "", (), 0
        if random.Random(f"share {draw}").random() < fact_share:
            fact = invent(draw)
            sentences, place = hide(sentences, fact, draw)
            asked = fact.question, fact.choices, fact.answer
        spoken = tuple((SPEAKER, sentence) for sentence in sentences)
        items.append(SirItem(name, *asked, "excerpt", spoken, (place, place + 1)))
    return items


def speak_excerpts(
    items: Sequence[SirItem], voices: Sequence[str], tools: Path, directory: Path, nj: int
) -> float:
    """Speak excerpts into a data directory (`write_data_dir`), whose `questions` has those with a
    fact only, with a table `utt2voice`. Voices are named as for `speak_at_speed`. Returns seconds
    of speech."""
    speak = functools.partial(speak_at_speed, Voices(tools))
    seconds = write_data_dir(items, speak, voices, directory, nj)
    write_questions(directory / "questions", [item for item in items if item.question])
    write_table(directory / UTT2VOICE, {item.id: cast(item, voices)[SPEAKER] for item in items})
    return seconds


def speak_parts(
    passages: Path,
    output_dir: Path,
    tools_dir: Path,
    held_out: int,
    fact_share: float,
    voices: Sequence[str] | None,
    test_voices: Sequence[str] | None,
    seed: int,
    nj: int,
) -> Iterator[str]:
    """Speak passages into the data directories train, valid and test; yields what is in each.

    Arguments are the options of `espnet-prune compact speech`. Of train and valid `fact_share` of
    the excerpts have a question, of test all. `voices` of train and valid speak at all `SPEEDS`,
    `TRAINING_VOICES` when absent; of test the voices are
    `NATURAL_VOICES` and `EVALUATION_VOICES` then. ValueError: a voice of both, or a part without
    passages.
    """
    voices = voices or TRAINING_VOICES
    test_voices = test_voices or (*NATURAL_VOICES, *EVALUATION_VOICES)
    both = set(voices) & set(test_voices)
    if both:
        raise ValueError(f"--voices and --test_voices both have {sorted(both)[0]}")
    rows, half = read_passages(passages), held_out // 2
    fast_and_slow = [f"{voice}@{speed}" for voice in voices for speed in SPEEDS]
    parts = {
        "train": (rows[held_out:], fact_share, fast_and_slow),
        "valid": (rows[:half], fact_share, fast_and_slow),
        "test": (rows[half:held_out], 1.0, test_voices),
    }
    for name, (texts, share, speakers) in parts.items():
        items = excerpt_items(texts, name, share, seed)
        if not items:
            raise ValueError(f"{passages}: has no passages for {name}, --held_out counted")
        seconds = speak_excerpts(items, speakers, tools_dir, output_dir / name, nj)
        facts = sum(bool(item.question) for item in items)
        yield f"{name}: {len(items)} excerpts, {seconds / 3600:.2f} h, {facts} with a question"
