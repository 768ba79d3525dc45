from espnet_prune.plugin.tasks.distill_model import ESPnetDistillModel
from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill import PruningConf
from test.espnet_prune.tiny import batch, saved


def test_statistics_can_be_gathered_over_processes(tmp_path):
    """`recursive_average` is what ESPnet's trainer does with them under DDP."""
    from espnet2.torch_utils.recursive_op import recursive_average

    directory = saved("whisper", tmp_path)
    encoders = load_encoder(directory), load_encoder(directory)
    model = ESPnetDistillModel(*encoders, PruningConf(target=0.5)).train()
    loss, stats, weight = model(*batch())
    stats, weight = recursive_average(stats, weight, distributed=False)
    assert loss.shape == (1,) and float(weight) == 2 * 60  # frames of the window
    assert model.collect_feats() == {}
