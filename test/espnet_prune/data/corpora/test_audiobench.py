"""DREAM-TTS and CN-College-Listen in AudioBench's layout, in miniature."""

import pytest
import soundfile

pytest.importorskip("pyarrow")

from espnet_prune.cli import main
from espnet_prune.data.data_dir import read_table, validate
from espnet_prune.data.sir.questions import read_questions, read_recordings
from test.espnet_prune.data.corpora.small_questions import ROWS, save_audiobench


def prepare(corpus, out, *options):
    main(["corpus", "audiobench", str(corpus), str(out), "--name", "dream", *options])


def test_recordings_questions_and_the_long_ones(tmp_path, capsys):
    prepare(save_audiobench(tmp_path / "corpus", rate=24000), tmp_path / "data")
    printed = capsys.readouterr().out
    assert "dream: 3 questions" in printed and "dream_60s: 2 questions" in printed
    found = read_questions(tmp_path / "data" / "dream" / "questions")
    assert list(found) == ["dream-00000", "dream-00001", "dream-00002"]
    # the semicolons are of the list, and letters are none of the text
    assert found["dream-00000"].choices == ("A bike", "A lock", "A camera.")
    assert [question.answer for question in found.values()] == [1, 2, 0]
    recordings = read_recordings(tmp_path / "data" / "dream")
    first, second, third = (recording.path for recording in recordings)
    assert first == second != third  # asked twice, there once
    assert soundfile.info(first).samplerate == 16000
    assert [recording.samples for recording in recordings] == [61 * 16000, 61 * 16000, 2 * 16000]
    assert validate(tmp_path / "data" / "dream", need_text=False) == []
    long = tmp_path / "data" / "dream_60s"
    assert list(read_table(long / "wav.scp")) == list(read_questions(long / "questions"))
    assert list(read_table(long / "wav.scp")) == ["dream-00000", "dream-00001"]


def test_a_second_run_and_a_part(tmp_path):
    corpus = save_audiobench(tmp_path / "corpus")
    prepare(corpus, tmp_path / "data")
    path = read_recordings(tmp_path / "data" / "dream")[0].path
    before = path.stat().st_mtime_ns
    prepare(corpus, tmp_path / "data", "--first", "1")
    assert path.stat().st_mtime_ns == before
    assert list(read_table(tmp_path / "data" / "dream" / "wav.scp")) == ["dream-00000"]


def test_what_is_no_question_is_left_out(tmp_path, caplog):
    rows = [
        (ROWS[0][0], "(A) A bike.\n(B) A bike.", *ROWS[0][2:]),
        (ROWS[1][0], ROWS[1][1], "(B) At home.", *ROWS[1][3:]),
        ROWS[2],
    ]
    prepare(save_audiobench(tmp_path / "corpus", rows), tmp_path / "data")
    assert list(read_table(tmp_path / "data" / "dream" / "wav.scp")) == ["dream-00002"]
    assert (
        "2 of 3 questions are left out, the first because dream-00000: two choices" in caplog.text
    )


def fails(capsys, *arguments):
    with pytest.raises(SystemExit):
        prepare(*arguments)
    return capsys.readouterr().err


def test_other_files(tmp_path, capsys):
    assert "no such directory; DREAM_TTS or" in fails(capsys, tmp_path / "none", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    message = fails(capsys, tmp_path / "empty", tmp_path / "data")
    assert "has no data/test-*.parquet; the directory of AudioBench's dataset" in message
    wrong = save_audiobench(tmp_path / "wrong", [(*ROWS[0][:2], "(D) A lock.", *ROWS[0][3:])])
    message = fails(capsys, wrong, tmp_path / "data")
    assert "has no question in it: dream-00000: the answer '(D) A lock.' is not among" in message
    file = tmp_path / "wrong" / "data" / "test-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:100])
    assert "of-00002.parquet: " in fails(capsys, wrong, tmp_path / "data")
