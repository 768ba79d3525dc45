"""Questions with choices about recordings, as AudioBench (arXiv 2406.16020) publishes them.

    <corpus>[/data]/test-00000-of-00005.parquet and so on

have the columns `context` (the recording: bytes of an audio file, and its path), `instruction` (the
question), `choices` (a line for each, "(A) A bike;", "(B) A lock.") and `answer` ("(B) A lock.").
So are DREAM-TTS (dream_tts_mcq_test; DREAM, arXiv 1902.00164, spoken) and CN-College-Listen
(cn_college_listen_mcq_test). Columns and texts are those of AudioBench's own code and of 80 rows in
its logs; the files themselves could not be had here.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from espnet_prune.data.corpora.common import find_folder
from espnet_prune.data.sir.questions import Question, choice_texts, question_text, text_of
from espnet_prune.data.sir.recorded import (
    begin_dir,
    convert,
    end_dir,
    lettered,
    place_of_answer,
    questions_of,
)
from espnet_prune.extras import load_extra
from espnet_prune.files.freshness import digest
from espnet_prune.files.writing import write_bytes

COLUMNS = ("context", "instruction", "choices", "answer")
FILES = "test-*.parquet"
#: rows in memory at once
ROWS = 16


def prepare(
    corpus: str | Path, out_dir: str | Path, name: str, first: int | None = None
) -> dict[str, int]:
    """Write a data directory `name` with recordings and questions, and `name`_60s with those of
    more than 60 s; returns their numbers of questions.

    Args:
        first: take so many questions only.
    """
    advice = "the directory of AudioBench's dataset is wanted, with its parquet files"
    folder = find_folder(corpus, "DREAM_TTS or CN_COLLEGE_LISTEN", ("data", "."), [FILES], advice)
    directory = Path(out_dir) / name
    audio = begin_dir(directory)
    rows = itertools.islice(_rows(folder, name), first)
    questions, recordings = [], {}
    for question, row in questions_of(rows, _question, folder):
        content = row["context"]["bytes"]
        target = audio / f"{digest([content.hex()])[:16]}.flac"
        if target not in recordings.values():
            with tempfile.TemporaryDirectory() as place:
                source = Path(place, question.id + Path(row["context"]["path"] or "").suffix)
                write_bytes(source, content)
                convert(source, target)
        questions.append(question)
        recordings[question.id] = target
    return end_dir(directory, questions, recordings)


def _rows(folder: Path, name: str) -> Iterator[tuple[str, dict]]:
    parquet = load_extra("pyarrow.parquet", "sir")
    number = 0
    for path in sorted(folder.glob(FILES)):
        try:
            file = parquet.ParquetFile(path)
            absent = [column for column in COLUMNS if column not in file.schema_arrow.names]
            if absent:
                raise ValueError(f"has no column {absent[0]}")
            for batch in file.iter_batches(ROWS, columns=list(COLUMNS)):
                for row in batch.to_pylist():
                    yield f"{name}-{number:05d}", row
                    number += 1
        except (OSError, ValueError) as error:  # pyarrow's own errors are among them
            raise ValueError(f"{path}: {error}; fetch it again") from None


def _question(name: str, row: dict) -> Question:
    audio = row["context"]
    if not isinstance(audio, dict) or not isinstance(audio.get("bytes"), bytes):
        raise ValueError("the file has no bytes of its recording")
    choices = choice_texts(lettered(text_of(row["choices"], "the list of choices")))
    answer = place_of_answer(text_of(row["answer"], "the answer"), choices)
    return Question(name, question_text(row["instruction"]), choices, answer)
