import json
from types import SimpleNamespace

import pytest
import torch

from espnet_prune.data.normalize import spoken_sentences
from espnet_prune.speech_llm.compact.passages import prompt, write_passages

GOOD = "The harbour was quiet that day. Anna took the ferry home. Nobody asked her why."


class Tokenizer:
    """Each prompt is one token: a number that its length gives."""

    padding_side = "right"

    def apply_chat_template(self, chat, tokenize, add_generation_prompt):
        return chat[0]["content"]

    def __call__(self, texts, return_tensors, padding):
        assert self.padding_side == "left"
        ids = torch.tensor([[len(text)] for text in texts])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

        class Batch(dict):
            def to(self, device):
                return self

        return Batch(batch)

    def batch_decode(self, ids, skip_special_tokens):
        return ["No." if row[0] % 5 == 0 else f"{GOOD} It was {row[1]}." for row in ids.tolist()]


class Model:
    device = "cpu"

    def __init__(self, stop_after=99):
        self.calls, self.stop_after = 0, stop_after

    def generate(self, input_ids, **options):
        self.calls += 1
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        drawn = torch.randint(100, (len(input_ids), 2))  # follows the global seed
        return torch.cat([input_ids, drawn], 1)


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path):
    whole = write_passages(Model(), Tokenizer(), 11, tmp_path / "whole", batch=4)
    with pytest.raises(KeyboardInterrupt):
        write_passages(Model(stop_after=1), Tokenizer(), 11, tmp_path / "text", batch=4)
    part = tmp_path / "text.part"
    part.write_text(part.read_text() + '["half')
    model = Model()
    assert write_passages(model, Tokenizer(), 11, tmp_path / "text", batch=4) == whole
    assert model.calls == 2
    assert (tmp_path / "text").read_text() == (tmp_path / "whole").read_text()
    assert not part.exists() and len(whole) == 11
    again = SimpleNamespace()  # a finished file needs no model
    assert write_passages(again, Tokenizer(), 11, tmp_path / "text") == whole
    other = write_passages(Model(), Tokenizer(), 11, tmp_path / "other", seed=1, batch=4)
    assert (
        other != whole and json.loads((tmp_path / "text").read_text().splitlines()[0]) == whole[0]
    )


def test_prompts_differ_by_number_and_seed():
    asked = {prompt(n, seed) for n in range(50) for seed in (0, 1)}
    assert len(asked) > 95 and prompt(3, 0) == prompt(3, 0)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (f"**Anna:** {GOOD}", GOOD.replace(". ", ".|").split("|")),
        ("Peter: I can’t come today.\n\nAnna: Why not, my friend?", None),
        ("It costs 1,250 crowns in all. It costs three crowns in all.", 1),
        ("Too short. This one goes on without an end", []),
        ("The café was closed on Sunday. [Music plays in the room.]", []),
    ],
)
def test_sentences_that_can_be_spoken(text, sentences):
    found = spoken_sentences(text)
    if sentences is None:
        assert found == ["I can't come today.", "Why not, my friend?"]
    elif sentences == 1:
        assert found == ["It costs three crowns in all."]
    else:
        assert found == sentences
