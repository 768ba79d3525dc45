"""`espnet-prune sir data` and `sir tsne`; for `sir score` see `evaluate/sir/test_report.py`."""

import json

import numpy as np
import pytest
import soundfile
import yaml

from espnet_prune.cli import main
from espnet_prune.data.data_dir import read_table, validate
from espnet_prune.evaluate.sir import inference
from test.espnet_prune.data.sir.test_items import row, write
from test.espnet_prune.evaluate.sir.stand_in import SECONDS, save_data_dir, save_speech_llm

VOICES = "en-us en"


@pytest.fixture
def items(tmp_path):
    """Three items of three sentences, by two speakers."""
    return write(tmp_path, *(row(metadata={"id": f"c_{n}"}) for n in (1, 2, 3)))


def options(items, out, *more):
    return [
        "sir",
        "data",
        "--items",
        str(items),
        "--output_dir",
        str(out),
        "--voices",
        VOICES,
        *more,
    ]


def test_items_are_spoken(items, tmp_path):
    out = tmp_path / "data" / "x"
    main(options(items, out, "--first", "2"))
    scp = read_table(out / "wav.scp")
    assert list(scp) == ["c_1", "c_2"] == list(read_table(out / "questions"))  # floor(n * 3 / 2)
    times = json.loads(read_table(out / "sentences")["c_1"])
    assert len(times["sentences"]) == 3 and times["key"] == times["sentences"][1]
    assert times["sentences"][2][1] == pytest.approx(soundfile.info(scp["c_1"]).duration, abs=1e-3)
    segments = tmp_path / "data" / "x_windows"
    assert validate(segments) == []
    text = "Good morning. The bridge opened in May. I thought it was June."
    assert read_table(segments / "text") == {"c_1-00": text, "c_2-00": text}

    main(
        options(write(tmp_path, row(metadata={"id": "c_2"})), tmp_path / "h", "--part_of", str(out))
    )
    assert read_table(tmp_path / "h" / "wav.scp") == {"c_2": scp["c_2"]}


def test_recordings(items, tmp_path, capsys):
    audio = tmp_path / "audio"
    audio.mkdir()
    for n in (1, 2):
        soundfile.write(audio / f"c_{n}.wav", np.zeros(16000, np.float32), 16000)
    with pytest.raises(SystemExit):
        main(options(items, tmp_path / "d", "--audio_dir", str(audio)))
    assert "c_3.wav: no such file" in capsys.readouterr().err
    soundfile.write(audio / "c_3.flac", np.zeros(24000, np.float32), 24000)
    main(options(items, tmp_path / "d", "--audio_dir", str(audio)))
    assert set(read_table(tmp_path / "d" / "utt2num_samples").values()) == {"16000"}


def test_recordings_need_no_key_sentence(tmp_path, capsys):
    items = write(tmp_path, row(), row(metadata={"id": "c_2"}, original_key_sentence="Never said."))
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("conversation_1", "c_2"):
        soundfile.write(audio / f"{name}.wav", np.zeros(1600, np.float32), 16000)
    main(options(items, tmp_path / "d", "--audio_dir", str(audio)))
    assert list(read_table(tmp_path / "d" / "questions")) == ["c_2", "conversation_1"]
    main(options(items, tmp_path / "p", "--part_of", str(tmp_path / "d")))
    assert list(read_table(tmp_path / "p" / "wav.scp")) == ["c_2", "conversation_1"]
    with pytest.raises(SystemExit):  # spoken items are scored by when it is said
        main(options(items, tmp_path / "s"))
    assert "line 2: c_2: the key sentence is 0 times" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_question": {"question": "When?", "correct_answer": "B"}}, "'choices' is missing"),
        (
            {
                "test_question": {
                    "question": "W?",
                    "choices": ["May", "June"],
                    "correct_answer": "x",
                }
            },
            "'x' is not among the choices",
        ),
    ],
)
def test_bad_rows(tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as stop:
        main(options(write(tmp_path, row(), row(**changes)), tmp_path / "d"))
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "data.jsonl: line 2: " in error and message in error


def test_wrong_options_of_data(items, tmp_path, capsys):
    for more, message in (
        (["--first", "0"], "--first is 0"),
        (["--voices", "en-us"], "2 speakers, but only 1 voices: give more of them (--voices)"),
        (["--voices", "en-us nobody"], "unknown voice 'nobody'"),
    ):
        with pytest.raises(SystemExit):
            main(options(items, tmp_path / "d", *more))
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def tsne_options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tsne")
    config = {
        "speech_llm": "qwen2_audio",
        "speech_llm_conf": {"model": str(save_speech_llm(folder / "model"))},
        "token_pruner_conf": {"window": 100},
        "prompt": "{question}",
        "batch_size": 2,
    }
    (folder / "sir.yaml").write_text(yaml.safe_dump(config))
    data = save_data_dir(folder / "data")
    options = ["sir", "tsne", "--config", str(folder / "sir.yaml"), "--data_dir", str(data)]
    return [*options, "--token_pruner", "speechprune", "--token_pruner_conf", "rate=0.2"]


def test_groups_are_all_tokens_of_the_recording(tsne_options, tmp_path, monkeypatch):
    seen = {}

    def tsne(groups, seed):
        seen.update(groups)
        return {name: rows[:, :2] for name, rows in groups.items()}

    monkeypatch.setattr(inference, "tsne", tsne)
    plot = tmp_path / "images" / "tsne.png"
    main([*tsne_options, "--item", "c", "--plot", str(plot)])
    assert plot.read_bytes().startswith(b"\x89PNG")
    dropped, kept, text = (len(rows) for rows in seen.values())
    assert list(seen) == [
        "dropped audio tokens",
        "kept audio tokens",
        "text tokens of the question",
    ]
    # 80% of the window of 100 stay of 25 tokens a second
    assert kept == 80 and abs(kept + dropped - 25 * SECONDS["c"]) <= 1 and text > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--item", "x"], "wav.scp: x is not there"),
        (["--token_pruner", "magic"], "unknown strategy 'magic'"),
        (["--token_pruner_conf", "rate=1.0"], "has to be in [0, 1)"),
        (["--speech_llm", "gpt"], "speech_llm is 'gpt'"),
    ],
)
def test_wrong_options_of_tsne(tsne_options, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as stop:
        main([*tsne_options, "--plot", str(tmp_path / "tsne.png"), *changes])
    assert stop.value.code == 1 and message in capsys.readouterr().err


def test_what_tsne_has_to_be_given(capsys):
    with pytest.raises(SystemExit):
        main(["sir", "tsne"])
    assert "--data_dir, --plot and --speech_llm" in capsys.readouterr().err
