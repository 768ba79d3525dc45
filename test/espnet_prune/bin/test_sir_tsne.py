import pytest
import yaml

from espnet_prune.bin import sir_tsne
from espnet_prune.bin.sir_tsne import main
from test.espnet_prune.evaluate.sir.stand_in import SECONDS, save_data_dir, save_speech_llm


@pytest.fixture(scope="module")
def options(tmp_path_factory):
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
    options = ["--config", str(folder / "sir.yaml"), "--data_dir", str(data)]
    return [*options, "--token_pruner", "speechprune", "--token_pruner_conf", "rate=0.2"]


def test_groups_are_all_tokens_of_the_recording(options, tmp_path, monkeypatch):
    seen = {}

    def tsne(groups, seed):
        seen.update(groups)
        return {name: rows[:, :2] for name, rows in groups.items()}

    monkeypatch.setattr(sir_tsne, "tsne", tsne)
    plot = tmp_path / "images" / "tsne.png"
    main([*options, "--item", "c", "--plot", str(plot)])
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
def test_wrong_options(options, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as stop:
        main([*options, "--plot", str(tmp_path / "tsne.png"), *changes])
    assert stop.value.code == 1 and message in capsys.readouterr().err


def test_what_has_to_be_given(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "--data_dir, --plot and --speech_llm" in capsys.readouterr().err
