"""Two processes under DistributedDataParallel (gloo, CPU) are one process with the joined batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_prune.structured import load_encoder
from test.espnet_prune.tiny import saved

WORKER = Path(__file__).with_name("distributed_worker.py")
# Group-norm layouts (base) normalise over the padding of a batch, so that there the batch matters:
# the worker gives them utterances of equal length.
LAYOUTS = ("whisper", "wavlm-large", "hubert-large", "wavlm-base")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Directory with the states of one process and of two, a folder for each layout."""
    work = tmp_path_factory.mktemp("distributed")
    teachers = [str(saved(layout, work / layout)) for layout in LAYOUTS]
    for world_size in (1, 2):
        processes = [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(rank), str(world_size), str(work), *teachers],
                cwd=work,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world_size)
        ]
        for process in processes:
            printed, _ = process.communicate(timeout=300)
            assert process.returncode == 0, printed[-3000:]
    return work


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_are_one_with_the_joined_batch(trained, layout):
    folder = trained / str(LAYOUTS.index(layout))
    one, first, second = (
        torch.load(folder / f"{name}.pth", weights_only=True)
        for name in ("rank0of1", "rank0of2", "rank1of2")
    )
    dense = load_encoder(trained / layout).state_dict()
    moved = 0.0
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        assert (first[name] - value).abs().max() <= 1e-5, name
        before = dense.get(name.removeprefix("student.encoder."))
        if before is not None:
            moved = max(moved, float((value - before).abs().max()))
    assert moved > 1e-2  # it did train
    assert int(one["updates"]) == 20 and one["lagrangian.lambda1"].abs() > 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_held_out_loss_is_that_of_all_processes(trained, layout):
    folder = trained / str(LAYOUTS.index(layout))
    one, two = (json.loads((folder / f"valid_of{n}.jsonl").read_text()) for n in (1, 2))
    assert two == pytest.approx(one, rel=1e-4) and one["update"] == 20 and one["distill"] > 0.01
