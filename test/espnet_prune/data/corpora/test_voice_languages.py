from collections import Counter

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.data.corpora import voice_prompts
from test.espnet_prune.small_corpora import prompts


def test_a_prompt_is_in_one_set_in_all_languages(tmp_path, capsys):
    out = tmp_path / "data"
    downloads = prompts(tmp_path / "downloads")
    main(["corpus", "voice_languages", str(out), "--download_dir", str(downloads)])
    assert f"{out}/train: 15 utterances" in capsys.readouterr().out
    names = {}
    for part, number in (("train", 3), ("dev", 1), ("test", 2)):
        assert data_dir.validate(out / part) == []
        labels = data_dir.read_table(out / part / "text")
        assert Counter(labels.values()) == dict.fromkeys(("en", "es", "fr", "it", "ru"), number)
        names[part] = {utterance.partition("-")[2] for utterance in labels}
    assert names == {
        "train": {"digits_5", "hours", "minutes"},
        "dev": {"beep"},
        "test": {"vm-goodbye", "agent-pass"},
    }


def test_what_whisper_cannot_hear_at_once_is_left_out(tmp_path, monkeypatch, caplog):
    downloads = prompts(tmp_path / "downloads")
    long = {"minutes": 30.5, "hours": 30.0}
    monkeypatch.setattr(voice_prompts, "seconds_of", lambda path: long.get(path.stem, 1.0))
    assert voice_prompts.prepare_languages(tmp_path / "data", downloads)["train"] == 10
    names = data_dir.read_table(tmp_path / "data" / "train" / "text")
    assert {name.partition("-")[2] for name in names} == {"digits_5", "hours"}
    assert "minutes: not labelled, longer than 30 s" in caplog.text
