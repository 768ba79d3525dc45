"""The ESPnet model that makes a compact speech LLM.

It reads what the ear has heard (`espnet-prune compact hear`), so no audio and no encoder are needed
in training.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.plugin.tasks import base
from espnet_prune.speech_llm.base import first_layer_of
from espnet_prune.speech_llm.compact.adapter import BLANK, AudioAdapter
from espnet_prune.speech_llm.compact.model import AROUND, BEFORE, computing_dtype, lora_parameters
from espnet_prune.speech_llm.prompts import PADDING, SHARED, seen_by
from espnet_prune.tokens import FirstLayer, TokenPruner

#: id between the token ids of two texts about the same recording
APART = -1


def without_blanks(tokens: Tensor, blank: Tensor, share: float) -> Tensor:
    """Audio tokens (T, D) without a share of the blanks, at random.

    Args:
        blank: (T,) true for them.
    """
    return tokens[~blank | (torch.rand(len(blank), device=blank.device) >= share)]


def as_pruned(
    heard: Tensor, query: Tensor, first_layer: FirstLayer, least: float = 0.25, most: float = 0.8
) -> Tensor:
    """Audio tokens (T, D) as SpeechPrune leaves them for a question, as much of them as is drawn.

    Its first phase leaves a share of the recording, uniform in [`least`, 1), of which its second
    takes away a rate, uniform in [0, `most`).

    Args:
        query: (L, D) embeddings of the question alone.
        first_layer: of the language model.
    """
    share, rate = least + (1.0 - least) * random_share(), most * random_share()
    prune = TokenPruner("speechprune", rate=rate, window=max(1, round(share * len(heard))))
    return heard[prune(heard[None], query=query[None], first_layer=first_layer)[0]]


def random_share() -> float:
    """Uniform in [0, 1)."""
    return float(torch.rand(()))


def _adapted(attention: nn.Module, name: str) -> SimpleNamespace:
    """Weight and bias of a linear layer with LoRA, as if it were merged."""
    layer = getattr(attention, name)
    plain = layer.get_base_layer()
    weight = plain.weight + layer.get_delta_weight(layer.active_adapter[0])
    return SimpleNamespace(weight=weight, bias=plain.bias)


def _split(ids: Tensor) -> list[Tensor]:
    """The parts of (L,) ids that `APART` separates."""
    borders = [-1, *(ids == APART).nonzero().squeeze(1).tolist(), len(ids)]
    return [ids[a + 1 : b] for a, b in zip(borders, borders[1:], strict=False)]


def _layout(start: int, prompts: list[Tensor], answers: list[Tensor]) -> tuple[Tensor, ...]:
    """How texts follow a beginning of `start` tokens that all of them see.

    Returns: the ids behind the beginning (without the answers' last), and for all S tokens (S,)
        their part as `seen_by` has it, their position, and whether they predict one of an answer.
    """
    ids = [torch.cat([p, a[:-1]]) for p, a in zip(prompts, answers, strict=True)]
    device = ids[0].device
    shared = torch.arange(start, device=device)
    steps = [torch.arange(len(row), device=device) for row in ids]
    part = [torch.full_like(step, c) for c, step in enumerate(steps)]
    # From the last token of the prompt on
    predicts = [step >= len(p) - 1 for step, p in zip(steps, prompts, strict=True)]
    return (
        torch.cat(ids),
        torch.cat([torch.full_like(shared, SHARED), *part]),
        torch.cat([shared, *(start + step for step in steps)]),
        torch.cat([torch.zeros_like(shared, dtype=torch.bool), *predicts]),
    )


class SpeechLoraModel(base.Model):
    """The language model learns to read audio tokens, by LoRA.

        -(1 / L) sum_l log p(a_l | "Passage:", S_1 ... S_T, prompt, a_1 ... a_{l-1})

    over the L tokens of the answer, a transcript or the answer to a question, and the mean of that
    over all texts. In training a share of the blanks is left out, another one for every recording,
    uniform in [0, `drop_blanks`): less of it takes less time. A share `prune` of the recordings
    that have a question is pruned for one of them instead (`as_pruned`), which is then the only
    text: the language model learns to answer from what SpeechPrune leaves.
    Several texts about one recording go through together: each follows the audio as if it were
    alone. The language model is not a submodule, so that checkpoints hold the adapter's vector and
    the LoRA weights only.

    Args:
        adapter: its e_blank is trained, too.
        lm: a `peft` model, see `espnet_prune.speech_llm.compact.model.with_lora`.
        tokenizer: its tokenizer.
        drop_blanks, prune: in [0, 1], see above.
        dtype: in which the language model computes (autocast), see `computing_dtype`; weights stay
            in float32.
    """

    def __init__(
        self, adapter: AudioAdapter, lm, tokenizer, drop_blanks=0.0, prune=0.0, dtype="float32"
    ):
        super().__init__()
        for name, share in (("drop_blanks", drop_blanks), ("prune", prune)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} is {share}, but has to be in [0, 1]")
        self.adapter = adapter
        self._lm = (lm,)  # a tuple hides it from torch
        named = lora_parameters(lm)
        self.lora_names = list(named)
        self.lora = nn.ParameterList(named.values())
        self.drop_blanks, self.prune, self.dtype = drop_blanks, prune, dtype
        computing_dtype(dtype, "cpu")  # says which there are
        before = tokenizer(BEFORE, add_special_tokens=False).input_ids
        self.register_buffer("before", torch.tensor(before), persistent=False)
        around = tokenizer(list(AROUND), add_special_tokens=False).input_ids
        self.around = tuple(map(tuple, around))

    def _question(self, prompt: Tensor) -> Tensor:
        """Of a prompt (P,) the ids of the question alone, (L,); none if it asks no question."""
        head, tail = map(len, self.around)
        ids = tuple(prompt.tolist())
        asks = (ids[:head], ids[len(ids) - tail :]) == self.around
        return prompt[head : len(ids) - tail] if asks else prompt[:0]

    def forward(
        self, tokens, tokens_lengths, prompt, prompt_lengths, answer, answer_lengths, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, and the share of the answers' tokens that are the likeliest (`acc`).

        Args:
            tokens: (B, T) token ids in time, as `place` gives them.
            prompt: (B, P) token ids between audio and answer, `APART` between two prompts.
            answer: (B, L) token ids, the last one that which ends an answer; as many answers as
                prompts, `APART` between two.
        """
        lm = self._lm[0].get_base_model()
        if lm.device != tokens.device:
            lm.to(tokens.device)
        embedding = lm.get_input_embeddings()
        rows, layouts, said = [], [], []
        for b, number in enumerate(tokens_lengths.tolist()):
            asked = _split(prompt[b, : prompt_lengths[b]])
            answers = _split(answer[b, : answer_lengths[b]])
            ids = tokens[b, :number]
            heard = self.adapter.embed(ids, embedding.weight)
            questions = [n for n, text in enumerate(asked) if len(self._question(text))]
            if self.training and questions and random_share() < self.prune:
                chosen = questions[int(random_share() * len(questions))]
                asked, answers = [asked[chosen]], [answers[chosen]]
                query = embedding(self._question(asked[0]))
                heard = as_pruned(heard, query, first_layer_of(lm, _adapted))
            elif self.training and self.drop_blanks:
                share = self.drop_blanks * random_share()
                heard = without_blanks(heard, ids == BLANK, share)
            beginning = torch.cat([embedding(self.before), heard])
            ids, *layout = _layout(len(beginning), asked, answers)
            rows.append(torch.cat([beginning, embedding(ids)]))
            layouts.append(layout)
            said += answers
        part, place, predicts = (
            pad_sequence(values, batch_first=True, padding_value=filler)
            for values, filler in zip(zip(*layouts, strict=True), (PADDING, 0, False), strict=True)
        )
        dtype = computing_dtype(self.dtype, tokens.device)
        with torch.autocast(tokens.device.type, dtype, enabled=dtype != torch.float32):
            out = lm.base_model(
                inputs_embeds=pad_sequence(rows, batch_first=True),
                attention_mask=seen_by(part)[:, None],
                position_ids=place,
                use_cache=False,
            )
        # The vocabulary is large: logits of the answers' places only
        hidden = out.last_hidden_state[predicts]
        logits, ids = lm.get_output_embeddings()(hidden.float()), torch.cat(said)
        losses = F.cross_entropy(logits.float(), ids, reduction="none")
        losses = losses.split([len(text) for text in said])
        loss = torch.stack([text.mean() for text in losses]).mean()
        acc = (logits.argmax(-1) == ids).float().mean()
        stats = {"loss": loss.detach(), "acc": acc}
        return force_gatherable((loss, stats, torch.tensor(float(len(said)))), loss.device)
