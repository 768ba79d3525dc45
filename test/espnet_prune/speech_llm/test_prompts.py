import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.speech_llm.prompts import PADDING, SHARED, left_pad, seen_by, staying


@st.composite
def batches(draw):
    """Prompts as strings of "t" (text) and "a" (audio), and which audio tokens of each stay."""
    texts = draw(st.lists(st.text("ta", min_size=1, max_size=12), min_size=1, max_size=3))
    kept = []
    for text in texts:
        stays = draw(st.lists(st.booleans(), min_size=text.count("a"), max_size=text.count("a")))
        kept.append([i for i, stay in enumerate(stays) if stay])
    return texts, kept


@given(batches(), st.sampled_from(["contiguous", "original"]))
@settings(max_examples=200, deadline=None)
def test_all_text_and_the_kept_audio_stay_in_order(batch, positions):
    texts, kept = batch
    expected = []
    for text, keep in zip(texts, kept, strict=True):
        audio = [p for p, kind in enumerate(text) if kind == "a"]
        stays = {audio[i] for i in keep}
        expected.append([p for p, kind in enumerate(text) if kind == "t" or p in stays])
    places = [
        staying(torch.tensor([kind == "a" for kind in text]), torch.tensor(keep, dtype=torch.long))
        for text, keep in zip(texts, kept, strict=True)
    ]
    assert [p.tolist() for p in places] == expected
    rows = [1.0 + p[:, None] for p in places]
    prompts = left_pad(rows, places, positions, kept)
    width = max(map(len, expected))
    for b, row in enumerate(expected):
        padding = [0] * (width - len(row))
        assert prompts.inputs_embeds[b, :, 0].tolist() == padding + [1.0 + p for p in row]
        assert prompts.attention_mask[b].tolist() == padding + [1] * len(row)
        numbers = row if positions == "original" else list(range(len(row)))
        assert prompts.position_ids[b].tolist() == padding + numbers


@given(st.lists(st.sampled_from([SHARED, PADDING, 0, 1, 2]), min_size=1, max_size=12), st.data())
def test_texts_see_the_beginning_and_themselves(parts, data):
    last = data.draw(st.one_of(st.none(), st.integers(1, len(parts))))
    seen = seen_by(torch.tensor([parts, parts]), last)
    assert seen.shape == (2, last or len(parts), len(parts)) and torch.equal(seen[0], seen[1])
    for i, row in enumerate(seen[0].tolist(), len(parts) - len(seen[0])):
        for j, sees in enumerate(row):
            assert sees == (j <= i and (parts[j] == SHARED or parts[j] == parts[i]))
