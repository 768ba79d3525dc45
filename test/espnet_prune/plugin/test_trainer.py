"""ESPnet's own trainings through `plugin.run` survive a kill."""

import pytest
import torch

trainer = pytest.importorskip("espnet_prune.plugin.trainer")


class Options:
    def __init__(self, output_dir):
        self.output_dir, self.resume = output_dir, True
        self.best_model_criterion, self.keep_nbest_models = [], 1
        self.patience, self.early_stopping_criterion = None, ("valid", "loss", "min")


class Alone:
    distributed = False


def test_a_stock_training_writes_whole_files_and_takes_up_what_is_there(tmp_path, monkeypatch):
    seen = []

    def run(cls, model, trainer_options, **kwargs):
        seen.append((cls, (tmp_path / "1epoch.pth").is_file()))
        torch.save({"a": model}, tmp_path / "checkpoint.pth")
        names = [path.name for path in tmp_path.iterdir()]
        assert not any(".tmp" in name for name in names)

    monkeypatch.setattr(trainer.Trainer, "run", classmethod(run))
    trainer.survive_kills()
    trainer.survive_kills()
    states = {"model": {"w": torch.ones(1)}, "reporter": {"epoch": 1, "stats": {1: {}}}}
    torch.save(
        states, tmp_path / "checkpoint.pth"
    )  # killed before the epoch's own file was written

    class Own(trainer.Trainer):
        pass

    for cls in (trainer.Trainer, Own):
        cls.run(model=1, trainer_options=Options(tmp_path), distributed_option=Alone())
        torch.save(states, tmp_path / "checkpoint.pth")
    assert [whole for _, whole in seen] == [True, True]
    assert all(issubclass(each, trainer.KillSafeTrainer) for each, _ in seen)
    assert issubclass(seen[1][0], Own)
