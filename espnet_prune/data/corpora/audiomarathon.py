"""Questions with choices about recordings of minutes: AudioMarathon (arXiv 2510.07293).

Each task has a JSON file beside its audio, anywhere below the corpus:

    scr  race_benchmark.json      [{"audio_path", "question", "options": […], "answer": "B"}, …]
    ser  merged_audio_data.json   [{"path", "question", "choice_a", …, "answer_gt": "B"}, …]
    sed  desed_sound_event_detection_task.json   {"tasks": [… as ser, or with "choices": {"A": …}]}
    mc   music_genre_classification_meta.json    as ser

(speech content reasoning from RACE, speech entities from SLUE, sound events, music). Names of files
and keys are those that the authors' evaluation reads; the data themselves could not be had here.
The benchmark's other tasks are not prepared: one has transcripts, one two folders, and the rest
labels or items that the authors leave out by rules in their code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from espnet_prune.data.corpora.common import require_dir, warn_unpublished
from espnet_prune.data.parallel import parallel_map
from espnet_prune.data.sir.questions import (
    LETTERS,
    Question,
    choice_texts,
    list_of,
    question_text,
    text_of,
)
from espnet_prune.data.sir.recorded import (
    begin_dir,
    convert,
    end_dir,
    place_of_answer,
    questions_of,
)
from espnet_prune.files.freshness import digest, stamp
from espnet_prune.files.reading import parse_json, read_text


@dataclass(frozen=True)
class Task:
    """A task: its file, and how many questions are published."""

    file: str
    published: int


TASKS = {
    "scr": Task("race_benchmark.json", 820),
    "ser": Task("merged_audio_data.json", 490),
    "sed": Task("desed_sound_event_detection_task.json", 254),
    "mc": Task("music_genre_classification_meta.json", 120),
}


def prepare(
    corpus: str | Path,
    out_dir: str | Path,
    tasks: list[str],
    prefix: str = "audiomarathon",
    first: int | None = None,
    nj: int = 1,
) -> dict[str, int]:
    """Write a data directory `prefix`_TASK for each task, and one ending in _60s with its
    recordings of more than 60 s; returns their numbers of questions.

    Args:
        first: take so many questions of each only.
        nj: worker processes.
    """
    root, found = require_dir(corpus, "AUDIOMARATHON"), {}
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"task '{task}' is unknown, choose from {', '.join(TASKS)}")
    for task in tasks:
        found |= _prepare_task(root, task, Path(out_dir) / f"{prefix}_{task}", first, nj)
    return found


def _prepare_task(
    root: Path, task: str, directory: Path, first: int | None, nj: int
) -> dict[str, int]:
    places = sorted(root.rglob(TASKS[task].file))
    if len(places) != 1:
        text = f"{len(places)} files {TASKS[task].file} below it, but task {task} has one"
        raise FileNotFoundError(f"{root}: {text}; AUDIOMARATHON of db.sh names the corpus")
    (path,) = places
    rows = parse_json(read_text(path))
    rows = rows["tasks"] if isinstance(rows, dict) and "tasks" in rows else rows
    if not isinstance(rows, list):
        raise ValueError(f"{path}: has to be a list of questions, or one under 'tasks'")
    if first is None:
        warn_unpublished(path, len(rows), TASKS[task].published, "questions")
    named = ((f"{task}-{number:05d}", row) for number, row in enumerate(rows[:first]))
    questions, sources = [], {}
    for question, row in questions_of(named, _question, path):
        source = path.parent / _audio_of(row)
        if not source.is_file():
            raise FileNotFoundError(f"{source}: no such file, but {path} has a question about it")
        questions.append(question)
        sources[question.id] = source
    folder = begin_dir(directory)
    targets = {each: folder / f"{digest([stamp(each)])[:16]}.flac" for each in sources.values()}
    list(parallel_map(_convert, sorted(targets.items()), nj, f"convert {directory.name}"))
    return end_dir(directory, questions, {name: targets[each] for name, each in sources.items()})


def _convert(pair: tuple[Path, Path]) -> None:
    convert(*pair)


def _audio_of(row: dict) -> str:
    return text_of(row["audio_path"] if "audio_path" in row else row["path"], "the recording")


def _question(name: str, row: dict) -> Question:
    if not isinstance(row, dict):
        raise ValueError(f"a question is {row!r}, but has to be a JSON object")
    _audio_of(row)
    if "options" in row:
        texts = list_of(row["options"], "what is to choose from")
    elif isinstance(row.get("choices"), dict):
        texts = [row["choices"][key] for key in sorted(row["choices"])]
    else:
        keys = (f"choice_{letter.lower()}" for letter in LETTERS)
        texts = [row[key] for key in keys if row.get(key)]
    choices = choice_texts(texts)
    answer = text_of(row["answer"] if "answer" in row else row["answer_gt"], "the answer")
    return Question(name, question_text(row["question"]), choices, place_of_answer(answer, choices))
