"""One process of `test_distributed.py`: ESPnet's loops of training and validation on its
rows of every batch.

usage: distributed_worker.py RANK WORLD_SIZE WORK_DIR TEACHER...
"""

import sys
from pathlib import Path

import torch
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter

from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
from espnet_prune.plugin.trainer import VALIDATION, PruneTrainer

UPDATES = 20
UTTERANCES = 4


def batches(rows, equal: bool):
    """(ids, batch) of wanted rows of batches of four utterances of different or equal size."""
    generator = torch.Generator().manual_seed(0)
    for n in range(UPDATES):
        lengths = (6400 * (1 + torch.rand(UTTERANCES, generator=generator))).long()
        if equal:
            lengths[:] = lengths[0]
        speech = 0.3 * torch.randn(UTTERANCES, int(lengths.max()), generator=generator)
        part = lengths[rows]
        batch = {"speech": speech[rows, : int(part.max())], "speech_lengths": part}
        yield [f"utt{n}_{row}" for row in rows], batch


def train(teacher: str, output_dir: Path, rank: int, world_size: int) -> None:
    args = SSLPruneTask.get_parser().parse_args(
        ["--teacher", teacher, "--output_dir", str(output_dir), "--optim", "adam"]
        + ["--optim_conf", "lr=0.001", "--optim_conf", "eps=0.0001", "--grad_clip", "5"]
        + ["--pruning_conf", "target=0.5", "--pruning_conf", "ramp_updates=10"]
        + ["--pruning_conf", "init=2.0", "--pruning_conf", "gate_lr=0.05"]
        + ["--pruning_conf", "multiplier_lr=0.05"]
    )
    torch.manual_seed(0)  # ESPnet seeds every process with the same number
    model = SSLPruneTask.build_model(args)
    optimizers = SSLPruneTask.build_optimizers(args, model)
    option, wrapped = DistributedOption(), model
    if world_size > 1:
        option = DistributedOption(distributed=True, dist_rank=rank, dist_world_size=world_size)
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
    rows = list(range(rank, UTTERANCES, world_size))
    # The Base models normalise over time, padding included: without any the batch does not matter
    equal = Path(teacher).name.endswith("-base")
    reporter = Reporter()
    reporter.set_epoch(1)
    torch.manual_seed(0)
    with reporter.observe("train") as observed:
        PruneTrainer.train_one_epoch(
            model=wrapped,
            iterator=list(batches(rows, equal)),
            optimizers=optimizers,
            schedulers=[None],
            scaler=None,
            reporter=observed,
            summary_writer=None,
            options=PruneTrainer.build_options(args),
            distributed_option=option,
        )
    torch.save(model.state_dict(), output_dir / f"rank{rank}of{world_size}.pth")
    with reporter.observe("valid") as observed:
        PruneTrainer.validate_one_epoch(
            model=wrapped.eval(),
            iterator=list(batches(rows, equal))[:3],
            reporter=observed,
            options=PruneTrainer.build_options(args),
            distributed_option=option,
        )
    if rank == 0:
        (output_dir / VALIDATION).rename(output_dir / f"valid_of{world_size}.jsonl")


def main() -> None:
    rank, world_size, work = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    if world_size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{work}/rendezvous", rank=rank, world_size=world_size
        )
    for number, teacher in enumerate(sys.argv[4:]):
        output_dir = work / str(number)
        output_dir.mkdir(exist_ok=True)
        train(teacher, output_dir, rank, world_size)
    if world_size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
