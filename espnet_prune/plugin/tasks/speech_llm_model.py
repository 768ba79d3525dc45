"""The ESPnet models of the two steps that make a compact speech LLM.

Both read what the frozen encoder gave (`espnet-prune compact features`), so no audio and no
encoder are needed in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.data.normalize import normalize_text
from espnet_prune.evaluate.metrics.error_rate import count_errors
from espnet_prune.plugin.tasks import base
from espnet_prune.speech_llm.compact.adapter import AudioAdapter
from espnet_prune.speech_llm.compact.model import BEFORE, lora_parameters
from espnet_prune.speech_llm.prompts import PADDING, SHARED, seen_by
from espnet_prune.tokens.scores import inside

#: id between the token ids of two texts about the same recording
APART = -1


def noisy(frames: Tensor, lengths: Tensor, noise: float) -> Tensor:
    """Frames (B, T, D) with Gaussian noise of `noise` times their own standard deviation."""
    if not noise:
        return frames
    spread = frames[inside(lengths, frames.shape[1])].std()
    return frames + noise * spread * torch.randn_like(frames)


def without_blanks(tokens: Tensor, blank: Tensor, share: float) -> Tensor:
    """Audio tokens (T, D) without a share of those at which a blank is the likeliest, at random.

    Args:
        blank: (T,) probability of blank.
    """
    return tokens[(blank < 0.5) | (torch.rand_like(blank) >= share)]


def ctc(logits: Tensor, lengths: Tensor, targets: list[Tensor]) -> Tensor:
    """CTC loss, summed over a batch; 0 for rows with more targets than frames.

    Args:
        logits: (B, T, classes), class 0 is blank.
        targets: classes of each row, without blanks.
    """
    return F.ctc_loss(
        logits.transpose(0, 1).float().contiguous().log_softmax(-1),
        torch.cat(targets),
        lengths,
        torch.tensor([len(row) for row in targets], device=logits.device),
        reduction="sum",
        zero_infinity=True,
    )


class AdapterCtcModel(base.Model):
    """First step: the adapter learns to hear, by CTC over the language model's token ids.

    Most of these tokens are words, and rare. So half of the blocks also learn letters, of which
    every word has many, by a second CTC (arXiv 1807.07104) whose output layer is not kept:

        (L_tokens + spelling * L_letters) / number of tokens

    Args:
        adapter: to be trained.
        tokenizer: the language model's, for the word error rate in validation.
        noise: in training, see `noisy`.
        spelling: weight of the letters.
        bf16: the adapter computes in bfloat16 (autocast); weights and the loss stay in float32.
    """

    def __init__(self, adapter: AudioAdapter, tokenizer, noise=0.0, spelling=0.0, bf16=False):
        super().__init__()
        self.adapter, self.tokenizer = adapter, tokenizer
        self.noise, self.spelling, self.bf16 = noise, spelling, bf16
        classes = torch.full((len(tokenizer),), -1)
        classes[adapter.token_ids] = torch.arange(1, len(adapter.token_ids) + 1)
        #: class of a token id, -1 for those that the adapter does not know
        self.register_buffer("classes", classes, persistent=False)
        self.spell = None
        if spelling:
            texts = [tokenizer.decode([number]).lower() for number in adapter.token_ids.tolist()]
            spelt = ["", *("".join(filter(str.isalnum, text)) for text in texts)]
            numbers = {letter: i for i, letter in enumerate(sorted(set("".join(spelt))), 1)}
            #: letters of a class, the blank's first
            self.letters = [torch.tensor([numbers[c] for c in t], dtype=torch.long) for t in spelt]
            self.spell = nn.Linear(adapter.input.out_features, len(numbers) + 1)

    def forward(
        self, feats: Tensor, feats_lengths: Tensor, words: Tensor, words_lengths: Tensor, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss per token; in validation the word error rate of the best paths (`wer`), too.

        Args:
            feats: (B, T, D) encoder frames.
            words: (B, L) token ids; those that the adapter does not know are left out of the
                loss, but not of the word error rate.
        """
        if self.training:
            feats = noisy(feats, feats_lengths, self.noise)
        with torch.autocast(feats.device.type, torch.bfloat16, enabled=self.bf16):
            hidden = self.adapter.hidden(feats, feats_lengths)
            logits = self.adapter.classify(hidden[-1])
            letters = self.spell(hidden[len(hidden) // 2]) if self.spell else None
        rows = [ids[:n] for ids, n in zip(words, words_lengths.tolist(), strict=True)]
        targets = [self.classes[ids] for ids in rows]
        targets = [row[row > 0] for row in targets]
        number = sum(map(len, targets))
        loss = ctc(logits, feats_lengths, targets) / max(number, 1)
        stats = {"loss": loss.detach()}
        if letters is not None:
            # Class 0 has no letters, and is there for rows without targets
            spelt = [torch.cat([self.letters[c] for c in (0, *row.tolist())]) for row in targets]
            spelt = [row.to(feats.device) for row in spelt]
            extra = ctc(letters, feats_lengths, spelt) / max(number, 1)
            stats["loss_letters"] = extra.detach()
            loss = loss + self.spelling * extra
        weight = float(number)
        if not self.training:
            texts = ([ids.tolist() for ids in rows], self.adapter.greedy(logits, feats_lengths))
            said, heard = ([normalize_text(self.tokenizer.decode(r)) for r in t] for t in texts)
            counts = count_errors(said, heard)
            # With words as weight the mean over batches is that over all words
            weight = float(max(counts.reference_length.sum(), 1))
            stats["wer"] = torch.tensor(float(counts.errors.sum()) / weight)
        return force_gatherable((loss, stats, torch.tensor(weight)), loss.device)


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
    """Second step: the language model learns to read audio tokens, by LoRA.

        -(1 / L) sum_l log p(a_l | "Passage:", S_1 ... S_T, prompt, a_1 ... a_{l-1})

    over the L tokens of the answer, a transcript or the answer to a question, and the mean of that
    over all texts. In training a share of the blanks is left out, another one for every recording,
    uniform in [0, `drop_blanks`): pruned audio is read, too, and less of it takes less time.
    Several texts about one recording go through together: each follows the audio as if it were
    alone. The adapter is frozen but for e_blank. The language model is not a submodule, so that
    checkpoints hold the adapter and the LoRA weights only.

    Args:
        adapter: trained by the first step.
        lm: a `peft` model, see `espnet_prune.speech_llm.compact.model.with_lora`.
        tokenizer: its tokenizer.
        noise: on the adapter's input in training, see `noisy`.
        drop_blanks: in [0, 1], see above.
        bf16: the language model computes in bfloat16 (autocast); weights stay in float32.
    """

    def __init__(
        self, adapter: AudioAdapter, lm, tokenizer, noise=0.0, drop_blanks=0.0, bf16=False
    ):
        super().__init__()
        if not 0.0 <= drop_blanks <= 1.0:
            raise ValueError(f"drop_blanks is {drop_blanks}, but has to be in [0, 1]")
        self.adapter = adapter.requires_grad_(False)
        self.adapter.blank.requires_grad_(True)
        self._lm = (lm,)  # a tuple hides it from torch
        named = lora_parameters(lm)
        self.lora_names = list(named)
        self.lora = nn.ParameterList(named.values())
        self.noise, self.drop_blanks, self.bf16 = noise, drop_blanks, bf16
        before = tokenizer(BEFORE, add_special_tokens=False).input_ids
        self.register_buffer("before", torch.tensor(before), persistent=False)

    def train(self, mode: bool = True):
        """As ever, but the frozen adapter stays in evaluation mode."""
        super().train(mode)
        self.adapter.eval()
        return self

    def forward(
        self, feats, feats_lengths, prompt, prompt_lengths, answer, answer_lengths, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, and the share of the answers' tokens that are the likeliest (`acc`).

        Args:
            feats: (B, T, D) encoder frames.
            prompt: (B, P) token ids between audio and answer, `APART` between two prompts.
            answer: (B, L) token ids, the last one that which ends an answer; as many answers as
                prompts, `APART` between two.
        """
        lm = self._lm[0].get_base_model()
        if lm.device != feats.device:
            lm.to(feats.device)
        if self.training:
            feats = noisy(feats, feats_lengths, self.noise)
        embedding = lm.get_input_embeddings()
        logits = self.adapter(feats, feats_lengths)
        audio = self.adapter.embed(logits, feats_lengths, embedding.weight)
        rows, layouts, said = [], [], []
        for b, frames in enumerate(feats_lengths.tolist()):
            asked = _split(prompt[b, : prompt_lengths[b]])
            answers = _split(answer[b, : answer_lengths[b]])
            heard = audio[b, :frames]
            if self.training and self.drop_blanks:
                share = self.drop_blanks * float(torch.rand(()))
                blank = logits[b, :frames].softmax(-1)[:, 0]
                heard = without_blanks(heard, blank, share)
            beginning = torch.cat([embedding(self.before), heard])
            ids, *layout = _layout(len(beginning), asked, answers)
            rows.append(torch.cat([beginning, embedding(ids)]))
            layouts.append(layout)
            said += answers
        part, place, predicts = (
            pad_sequence(values, batch_first=True, padding_value=filler)
            for values, filler in zip(zip(*layouts, strict=True), (PADDING, 0, False), strict=True)
        )
        with torch.autocast(feats.device.type, torch.bfloat16, enabled=self.bf16):
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
