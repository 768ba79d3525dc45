"""Tasks of AudioMarathon with choices, in its layout, in miniature."""

import json

import numpy as np
import pytest
import soundfile

from espnet_prune.cli import main
from espnet_prune.data.data_dir import read_table, validate
from espnet_prune.data.sir.questions import read_questions, read_recordings
from test.espnet_prune.data.corpora.small_questions import save_audiomarathon, wave


def prepare(corpus, out, *options):
    main(["corpus", "audiomarathon", str(corpus), str(out), *options])


def test_speech_content_and_other_layouts(tmp_path, capsys, caplog):
    corpus = save_audiomarathon(tmp_path / "corpus")
    data = tmp_path / "data"
    prepare(corpus, data, "--tasks", "scr", "ser", "sed")
    printed = capsys.readouterr().out
    assert "audiomarathon_scr: 2 questions" in printed and "audiomarathon_scr_60s: 1" in printed
    assert "audiomarathon_ser_60s" not in printed
    assert "has 2 questions instead of the published 820" in caplog.text
    for task, answer in (("scr", 1), ("ser", 3), ("sed", 0)):
        folder = data / f"audiomarathon_{task}"
        found = read_questions(folder / "questions")
        assert [question.answer for question in found.values()] == [answer, answer]
        assert found[f"{task}-00000"].choices == ("Red", "Green team", "Monday", "Nobody")
        assert validate(folder, need_text=False) == []
    (first, _) = read_recordings(data / "audiomarathon_scr")
    heard = first.load(16000)
    mean = wave(2.0, 0, 8000, 2).mean(1)
    np.testing.assert_allclose(heard[3200:-3200:2], mean[1600:-1600], atol=0.02)
    assert list(read_table(data / "audiomarathon_scr_60s" / "wav.scp")) == ["scr-00001"]


def fails(capsys, *arguments):
    with pytest.raises(SystemExit):
        prepare(*arguments)
    return capsys.readouterr().err


def test_what_is_missing(tmp_path, capsys):
    corpus, data = save_audiomarathon(tmp_path / "corpus"), tmp_path / "data"
    assert "task 'asr' is unknown, choose from scr" in fails(capsys, corpus, data, "--tasks", "asr")
    message = fails(capsys, corpus, data, "--tasks", "mc")
    assert "0 files music_genre_classification_meta.json below it, but task mc has one" in message
    path = corpus / "race_audio" / "race_benchmark.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, "answer": "E"} for row in rows]))
    message = fails(capsys, corpus, data)
    assert "race_benchmark.json: has no question in it: scr-00000: the answer 'E' is not" in message
    path.write_text(json.dumps(rows))
    (corpus / "race_audio" / "test" / "high" / "1.wav").unlink()
    assert "high/1.wav: no such file, but " in fails(capsys, corpus, data)
    assert not (data / "audiomarathon_scr").exists()  # nothing half


def test_channels_are_mixed_only_here(tmp_path):
    from espnet_prune.data.audio import read_speech

    soundfile.write(tmp_path / "two.wav", wave(1.0, 0, 8000, 2), 8000)
    with pytest.raises(ValueError, match="has 2 channels instead of one"):
        read_speech(tmp_path / "two.wav")
    samples, rate = read_speech(tmp_path / "two.wav", mix=True)
    assert samples.shape == (8000,) and rate == 8000
