"""The adapter of the compact speech LLM: a CTC recogniser of the language model's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnet_prune.tokens.scores import inside

#: frames over which a token is spread to both sides, 0.24 s
REACH = 6


@dataclass(frozen=True)
class AdapterShape:
    """Sizes of an `AudioAdapter`, whose `embed` has the equations of `spread` and `contrast`
    (ValueError: a number out of its range)."""

    width: int = 512  # channels
    blocks: int = 3
    kernel: int = 5  # of the convolutions, odd
    heads: int = 0  # of self-attention, a divisor of the width; 0 for convolutions only
    feedforward: int = 1024  # inner channels of the Transformer's layers
    spread: float = 0.0  # in [0, 1): how much of a token is left one frame further in blanks
    contrast: float = 0.0  # at least 0: how far blanks lie from text, in means of the embeddings

    def __post_init__(self) -> None:
        if self.heads and self.width % self.heads:
            raise ValueError(f"width is {self.width}, but not a multiple of heads, {self.heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}, but has to be odd")
        if not 0.0 <= self.spread < 1.0:
            raise ValueError(f"spread is {self.spread}, but has to be in [0, 1)")
        if self.contrast < 0.0:
            raise ValueError(f"contrast is {self.contrast}, but has to be 0 or more")


class TransformerLayer(nn.Module):
    """Self-attention and feedforward, both with the norm first.

    Not torch's layer: that one takes a bias of the scores in training, but in evaluation gives
    wrong numbers with it (2.12).
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.inner = nn.Linear(width, feedforward)
        self.outer = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, T, width) with a bias of the scores, (B, heads, T, T)."""
        parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        # On CPUs the gradient of torch's fused attention takes three times as long
        heard = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v
        x = x + self.dropout(self.out(heard.transpose(1, 2).flatten(2)))
        y = nn.functional.gelu(self.inner(self.norms[1](x)))
        return x + self.dropout(self.outer(y))


class AudioAdapter(nn.Module):
    """Blocks over time from encoder frames to tokens of a language model.

    A block is a residual convolution and, where there are heads, a Transformer's layer behind it
    (self-attention, feedforward), which hears what is said around. Attention falls with distance,
    so that it does the same in chunks longer than those of the training (arXiv 2108.12409):

        softmax_s(q_t k_s / sqrt(d) - 2^(-8 h / heads) |t - s|),   h = 1 ... heads

    Inputs and outputs have the sizes of a frame and of the language model's embeddings. Class 0 is
    blank and class k + 1 `token_ids[k]`. Dropout is in the Transformer's layers, and after
    convolutions.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        token_ids: Sequence[int],
        shape: AdapterShape,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.shape = shape
        width, kernel, heads, blocks = shape.width, shape.kernel, shape.heads, shape.blocks
        self.input = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(blocks)
        )
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, shape.feedforward, dropout)
            for _ in range(blocks if heads else 0)
        )
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / max(heads, 1))
        self.slopes: Tensor
        self.register_buffer("slopes", slopes, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, len(token_ids) + 1)
        self.blank = nn.Parameter(torch.randn(outputs) * 0.05)
        self.token_ids: Tensor
        self.register_buffer("token_ids", torch.tensor(list(token_ids)), persistent=False)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 1 + tokens) logits of frames (B, T, inputs); what is beyond the lengths (B,)
        changes nothing before it."""
        return self.classify(self.hidden(frames, lengths)[-1])

    def hidden(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """(B, T, width) before, between and after the blocks; arguments as for `forward`."""
        real = inside(lengths, frames.shape[1])
        found = [self.input(frames)]
        if not frames.shape[1]:  # a convolution refuses it
            return found
        bias = self._distances(real) if self.layers else None
        for block, convolution in enumerate(self.convolutions):
            x = found[-1]
            y = self.norms[block](x) * real[..., None]
            y = convolution(y.transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(nn.functional.gelu(y))
            found.append(self.layers[block](x, bias) if self.layers else x)
        return found

    def classify(self, hidden: Tensor) -> Tensor:
        """(B, T, 1 + tokens) logits of what is behind the last block, (B, T, width)."""
        return self.output(self.norm(hidden))

    def _distances(self, real: Tensor) -> Tensor:
        """What attention adds to its scores, (B, heads, T, T); `real` is (B, T)."""
        at = torch.arange(real.shape[1], device=real.device)
        bias = -self.slopes[:, None, None] * (at[:, None] - at).abs()
        # No -inf: a row without a frame would be NaN
        return bias.expand(len(real), -1, -1, -1).masked_fill(~real[:, None, None], -1e4)

    def embed(self, logits: Tensor, lengths: Tensor, embeddings: Tensor) -> Tensor:
        """Audio tokens.

            S_t = sum_k p_t(k) E_k + p_t(blank) (sum_k q_t(k) E_k + e_blank - contrast mean_v E_v)
            q_t(k) = sum_s spread^|t - s| p_s(k) / max(1, w_t)     |t - s| <= REACH
            w_t = sum_s spread^|t - s| (1 - p_s(blank))

        k runs over the token ids, E are embeddings, and e_blank is one learned vector. Without
        `spread` q_t is 0. What all text has in common is the mean of the embeddings; blanks
        lie on its other side, so that they are like no query and go before words do.

        Logits are (B, T, 1 + tokens), lengths (B,), beyond which nothing is spread, embeddings
        (vocabulary, D) those of the language model, and what is returned (B, T, D).
        """
        p = logits.softmax(-1) * inside(lengths, logits.shape[1])[..., None]
        said = p[..., 1:] @ embeddings[self.token_ids].to(p)
        between = self.blank - self.shape.contrast * embeddings.mean(0).to(p)
        if self.shape.spread and logits.shape[1]:  # a convolution refuses an empty input
            mass = p[..., 1:].sum(-1, keepdim=True)
            near, mass = self._spread(torch.cat([said, mass], -1)).split([said.shape[-1], 1], -1)
            between = near / mass.clamp_min(1.0) + between
        return said + p[..., :1] * between

    def _spread(self, x: Tensor) -> Tensor:
        """(B, T, D): the sum over frames s of spread^|t - s| x_s, |t - s| <= REACH."""
        distance = torch.arange(-REACH, REACH + 1, device=x.device).abs()
        kernel = (self.shape.spread**distance).to(x)[None, None]
        rows = x.transpose(1, 2)
        spread = nn.functional.conv1d(rows.flatten(0, 1)[:, None], kernel, padding=REACH)
        return spread[:, 0].view_as(rows).transpose(1, 2)

    def greedy(self, logits: Tensor, lengths: Tensor) -> list[list[int]]:
        """Token ids of the best CTC path: repetitions merged, then blanks removed."""
        rows = []
        for best, length in zip(logits.argmax(-1), lengths.tolist(), strict=True):
            merged = best[:length].unique_consecutive()
            rows.append(self.token_ids[merged[merged > 0] - 1].tolist())
        return rows
