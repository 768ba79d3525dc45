import pytest

pytest.importorskip("espnet3", reason="ESPnet 3 comes with ESPnet 202611")
pytest.importorskip("lightning", reason="ESPnet 3 needs espnet_prune[espnet3]")

from espnet3.contract.stages import roles, stage_names
from omegaconf import OmegaConf

from espnet_prune.plugin.espnet3 import system
from espnet_prune.plugin.espnet3.system import SSLPruneSystem


def system_of(folder, **blocks) -> SSLPruneSystem:
    return SSLPruneSystem(training_config=OmegaConf.create({"exp_dir": str(folder), **blocks}))


def test_the_encoder_is_made_before_anything_reads_it():
    names = stage_names(SSLPruneSystem)
    assert names[:6] == [
        *("create_dataset", "fetch_teacher", "prune", "distill"),
        *("train_tokenizer", "collect_stats"),
    ]
    assert names[6:10] == ["train", "infer", "measure", "pack_model"]
    assert roles(SSLPruneSystem) == ("training", "inference", "metrics", "publication", "demo")


def test_a_stage_calls_its_function_with_its_block(tmp_path, monkeypatch):
    called = []

    def prune(model, audio, target=0.5):
        called.append((model, audio, target))

    monkeypatch.setattr(system, "prune", prune)
    block = {"model": "a", "audio": "${data_dir}/train", "target": 0.3}
    system_of(tmp_path, data_dir="data", prune=block).prune()
    assert called == [("a", "data/train", 0.3)]
    wrong = r"training config, block 'prune': .*'taget'; it takes model, audio, target"
    with pytest.raises(ValueError, match=wrong):
        system_of(tmp_path, prune={"model": "a", "audio": "b", "taget": 0.3}).prune()
    with pytest.raises(ValueError, match="block 'prune': is missing"):
        system_of(tmp_path).prune()
    with pytest.raises(TypeError, match="does not accept arguments"):
        system_of(tmp_path, prune=block).prune(0.3)
