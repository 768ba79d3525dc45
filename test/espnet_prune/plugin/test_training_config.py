import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.cli import main
from espnet_prune.plugin.training_config import model_size, spread_updates, write_spread


def model_directory(folder, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_hub_names_and_directories(tmp_path, capsys):
    assert model_size("microsoft/wavlm-base-plus") == "base"
    assert model_size("facebook/hubert-base-ls960") == "base"
    assert model_size("facebook/hubert-large-ll60k") == "large"
    assert model_size("facebook/wav2vec2-large-lv60") == "large"
    base = {"model_type": "wavlm", "hidden_size": 768}
    assert model_size(model_directory(tmp_path / "WavLM-Base-Plus", **base)) == "base"
    hubert = model_directory(tmp_path / "a-base", model_type="hubert", hidden_size=1024)
    assert model_size(hubert) == "large"
    pruned = {"model_type": "espnet_prune", "family": "wav2vec2", "base": {"hidden_size": 768}}
    main(["encoder", "size", model_directory(tmp_path / "pruned", **pruned)])
    assert capsys.readouterr().out == "base\n"


def test_no_config_for_a_teacher(tmp_path):
    for name in ("some/model", "openai/whisper-base", "facebook/wav2vec2-xls-r-300m"):
        with pytest.raises(ValueError, match=f"teacher {name}: no such directory, and no config"):
            model_size(name)
    tiny = model_directory(tmp_path / "tiny", model_type="wavlm", hidden_size=24)
    with pytest.raises(ValueError, match="no config for family 'wavlm' with hidden_size 24"):
        model_size(tiny)
    whisper = model_directory(tmp_path / "whisper", model_type="whisper", hidden_size=768)
    with pytest.raises(ValueError, match="no config for family 'whisper'.*--prune_config"):
        model_size(whisper)
    with pytest.raises(FileNotFoundError, match="config.json: no such file"):
        model_size(str(tmp_path))
    (tmp_path / "tiny" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: not JSON"):
        model_size(tiny)


ONE_GPU = {"accum_grad": 12, "batch_bins": 960000, "num_iters_per_epoch": 30000, "lr": 1}


@pytest.mark.parametrize(
    ("gpus", "accum_grad", "wanted"),
    [
        (1, None, (12, 960000, 30000)),
        (4, None, (3, 3840000, 7500)),
        (5, None, (3, 3840000, 7500)),
        (8, None, (2, 5760000, 5000)),
        (32, None, (1, 11520000, 2500)),
        (4, 6, (6, 1920000, 15000)),
        (1, 24, (24, 480000, 60000)),
    ],
)
def test_spread(gpus, accum_grad, wanted):
    config = spread_updates(ONE_GPU, gpus, accum_grad)
    keys = ("accum_grad", "batch_bins", "num_iters_per_epoch")
    assert tuple(config[key] for key in keys) == wanted and config["lr"] == 1


@given(st.integers(1, 16), st.integers(1, 64), st.integers(1, 10**6), st.integers(1, 100))
def test_an_update_sees_the_same_audio(passes, gpus, bins, updates):
    config = spread_updates(
        {"accum_grad": passes, "batch_bins": bins, "num_iters_per_epoch": passes * updates}, gpus
    )
    # Exact but for less than a sample of each pass, and no GPU gets more at once than before
    seen = config["batch_bins"] * config["accum_grad"]
    assert passes * bins - config["accum_grad"] < seen <= passes * bins
    assert config["batch_bins"] <= bins * gpus
    assert config["num_iters_per_epoch"] == updates * config["accum_grad"]


def test_other_batches_stay_on_one_gpu_only():
    config = {"batch_type": "unsorted", "batch_size": 1}
    assert spread_updates(config, 1) == config
    with pytest.raises(ValueError, match="batch_bins: missing, so updates cannot be spread"):
        spread_updates(config, 2)


def test_written_config(tmp_path, capsys):
    source, target = tmp_path / "c.yaml", tmp_path / "exp" / "c_960h.yaml"
    source.write_text(yaml.safe_dump(ONE_GPU))
    write_spread(source, target, 4)
    assert target.read_text().startswith(f"# {source}, updates spread over GPUs.\n")
    assert yaml.safe_load(target.read_text()) == spread_updates(ONE_GPU, 4)

    with pytest.raises(ValueError, match="is the config to read; name another file to write"):
        write_spread(source, source, 4)
    assert yaml.safe_load(source.read_text()) == ONE_GPU

    def error(*args):
        with pytest.raises(SystemExit):
            main(["encoder", "spread-updates", str(source), str(target), *args])
        return capsys.readouterr().err

    assert error("--gpus", "0") == f"error: {source}: --gpus is 0, but has to be 1 or more\n"
    source.write_text(yaml.safe_dump({**ONE_GPU, "num_iters_per_epoch": 100}))
    assert "num_iters_per_epoch: 100 is no multiple of accum_grad, 12" in error("--gpus", "2")
    source.write_text("- 1")
    assert "not a YAML mapping" in error()
    source.write_text("a: [")
    assert "not YAML" in error()
    source.unlink()
    assert error() == f"error: {source}: no such file\n"
