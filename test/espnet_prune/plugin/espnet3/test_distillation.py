import re

import pytest
import torch

from espnet_prune.api import prune
from espnet_prune.data.formatting import format_wav
from espnet_prune.plugin.espnet3.distillation import distill
from espnet_prune.structured import load_encoder
from test.espnet_prune.asr_training import write_corpus
from test.espnet_prune.tiny import saved

OPTIONS = {
    "optim": "adamw",
    "optim_conf": {"lr": 1e-3},
    "max_epoch": 1,
    "batch_type": "unsorted",
    "batch_size": 3,
    "num_workers": 0,
    "use_tensorboard": False,
    "use_matplotlib": False,
}


def test_distil_a_pruned_encoder(tmp_path):
    published, data = tmp_path / "published", str(tmp_path / "data")
    published.mkdir()
    write_corpus(published)
    (published / "utt2spk").write_text("".join(f"utt{n} one\n" for n in range(6)))
    utterances = " ".join(f"utt{n}" for n in range(6))
    (published / "spk2utt").write_text(f"one {utterances}\n")
    format_wav(published, data)
    teacher, student = str(saved("whisper", tmp_path / "teacher")), str(tmp_path / "slim")
    prune(teacher, data, 0.4, student)
    places = {"training_dir": str(tmp_path / "training"), "output_dir": str(tmp_path / "pruned")}

    distill(teacher, student, data, data, **places, options=OPTIONS)
    before, after = load_encoder(student), load_encoder(places["output_dir"])
    assert after.config.kept == before.config.kept
    weights = zip(before.parameters(), after.parameters(), strict=True)
    assert not all(torch.equal(old, new) for old, new in weights)

    distill(teacher, student, data, data, **places, options=OPTIONS)  # done already
    again = load_encoder(places["output_dir"])
    for old, new in zip(after.parameters(), again.parameters(), strict=True):
        assert torch.equal(old, new)
    with pytest.raises(
        ValueError, match=re.escape(f"{places['training_dir']} was made from other")
    ):
        distill(teacher, student, data, data, **places, options={**OPTIONS, "max_epoch": 2})
