import pytest
import torch

from espnet_prune.structured import GatedEncoder, load_encoder, slim
from espnet_prune.structured.families.layers import PrunableAttention
from espnet_prune.structured.layout import attentions, level
from test.espnet_prune.tiny import LAYOUTS, saved


@pytest.mark.parametrize("layout", ["equal", "stock"])
@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.parametrize("round_to", [1, 3])
def test_hard_masks_are_of_the_layout(tmp_path, model, layout, round_to):
    encoder = load_encoder(saved(model, tmp_path))
    gated = GatedEncoder(encoder, layout=layout, round_to=round_to)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for alpha in gated.log_alphas().values():
            alpha.copy_(torch.randn(len(alpha), generator=generator))
    masks = gated.hard_masks(0.3)
    assert gated.exact_sparsity(masks) == pytest.approx(0.3, abs=0.04)
    small = slim(encoder, masks)
    for module in small.backbone.modules():
        if isinstance(module, PrunableAttention) and module.present:
            assert len(set(module.qk_sizes)) <= 1 and len(set(module.vo_sizes)) <= 1
            if layout == "stock":
                assert len(module.heads) == 4 and module.qk_sizes == module.vo_sizes
            if round_to == 3 and module.heads:
                assert module.qk_sizes[0] % 3 == 0 and module.vo_sizes[0] % 3 == 0


def test_heads_get_the_mean_of_their_sizes_and_keep_their_best(tmp_path):
    plan = load_encoder(saved("whisper", tmp_path)).plan()
    sites = next(iter(attentions(plan)))
    masks = {name: torch.ones(plan.size(name)) for name in plan.prunable()}
    masks[sites["qk"]] = torch.tensor([1.0] * 2 + [0] * 4 + [1] * 4 + [0] * 2 + [1] * 6 + [0] * 6)
    scores = {name: torch.arange(plan.size(name)).float() for name in plan.prunable()}
    found = level(plan, masks, scores, "equal")
    # 2, 4, 6 and 0 dimensions: the head with none has values, so it stays
    assert found[sites["qk"]].view(4, 6).tolist() == [[0.0] * 3 + [1.0] * 3] * 4
    masks[sites["heads"]] = torch.tensor([1.0, 1, 1, 0])
    found = level(plan, masks, scores, "equal")
    assert found[sites["qk"]].view(4, 6).tolist() == [[0.0] * 2 + [1.0] * 4] * 3 + [[0.0] * 6]
    assert level(plan, masks, scores, "free") == masks
