"""The Conformer encoder of ConVoiFilter: post-norm, macaron, relative positions.

Hidden states are `(batch, frames, dim)`. Sources: Gulati et al., "Conformer" (arXiv 2005.08100); Dai et al.,
"Transformer-XL" (arXiv 1901.02860) for relative positions; names and order of parts follow the public checkpoint.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from lib.models.dropout import Dropout, dropout
from lib.models.tables import Tables

LONGEST = 400  # frames of a depthwise convolution at a time, where its weights learn on a CPU


def relative_positions(frames, dim, device=None):
    """Sinusoids for the distances `frames - 1 ...

    -(frames - 1)`: `(2 * frames - 1, dim)`, even columns sine, odd cosine.
    """
    distance = torch.arange(frames - 1, -frames, -1, dtype=torch.float32, device=device)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32, device=device) * (-math.log(10000.0) / dim))
    return torch.stack([(distance * rate).sin(), (distance * rate).cos()], dim=-1).flatten(1)


def shift_to_keys(scores):
    """Turn scores by distance `(batch, heads, frames, 2 * frames - 1)` into scores by key `(batch, heads, frames,
    frames)`.

    Row i holds the distances from largest to smallest; key j of row i is the distance i - j, which is column
    `frames - 1 - i + j`: each row starts one column earlier than the row above.
    """
    batch, heads, frames, _width = scores.shape
    scores = scores.contiguous()
    b, h, r, c = scores.stride()
    return scores.as_strided(
        (batch, heads, frames, frames), (b, h, r - c, c), scores.storage_offset() + (frames - 1) * c
    )


def aligned(bias):
    """The same values `(..., frames, frames)` with each row at a multiple of 16 bytes: some kernels of GPUs end in
    "misaligned address" else.
    """
    return F.pad(bias, (0, 8 - bias.shape[-1] % 8))[..., : bias.shape[-1]]


def linear(layer, x):
    """A Linear, or a convolution with kernel 1 as one, on `(batch, frames, channels)`; and beside it what adapters of
    peft add (those of `lib.training.adapters`: without dropout).
    """
    if isinstance(layer, (nn.Linear, nn.Conv1d)):
        return F.linear(x, layer.weight.flatten(1), layer.bias)
    y = linear(layer.get_base_layer(), x)
    for name in [] if layer.disable_adapters or layer.merged else layer.active_adapters:
        y = y + linear(layer.lora_B[name], linear(layer.lora_A[name], x) * layer.scaling[name])
    return y


def lowered(x):
    """`x` as autocast would cast it for a matrix product: once for all products that read it."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a content term (bias u) and a distance term (bias v).

    form: "fused" goes through `scaled_dot_product_attention` with the distance term as its bias, "plain" is written
    out, "auto" takes the faster: plain on a CPU that drops weights or whose bias needs a gradient in bfloat16, else
    fused. All three agree.
    """

    form = "auto"

    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.heads, self.width, self.dropout = heads, dim // heads, dropout
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(dim, dim) for _ in range(4))
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, self.width))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, self.width))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x, positions):
        """`x` `(batch, frames, dim)`, `positions` `(2 * frames - 1, dim)` -> `(batch, frames, dim)`."""
        batch, frames, dim = x.shape
        x = lowered(x)

        def split(y):  # (batch, frames, dim) -> (batch, heads, frames, width)
            return y.view(y.shape[0], -1, self.heads, self.width).transpose(1, 2)

        q, k, v = (split(linear(layer, x)) for layer in (self.linear_q, self.linear_k, self.linear_v))
        p, scale = split(self.linear_pos(positions)[None]), 1 / math.sqrt(self.width)
        by_distance = shift_to_keys((q + self.pos_bias_v[:, None].to(q.dtype)) @ (p * scale).transpose(-2, -1))
        q, rate = (q + self.pos_bias_u[:, None].to(q.dtype)) * scale, self.dropout if self.training else 0.0
        if self.form == "plain" or (self.form == "auto" and self._slow_if_fused(by_distance, rate)):
            scores = by_distance + q @ k.transpose(-2, -1)
            with torch.autocast(x.device.type, enabled=False):  # else the scores are cast to float32 and back
                weights = torch.softmax(scores, dim=-1)
            out = dropout(weights, rate, self.training) @ v
        else:
            by_distance = aligned(by_distance) if x.device.type == "cuda" else by_distance
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=by_distance, dropout_p=rate, scale=1.0)
        return linear(self.linear_out, out.transpose(1, 2).reshape(batch, frames, dim))

    @staticmethod
    def _slow_if_fused(by_distance, rate):
        """On a CPU nothing is fused where weights are dropped or a bias in bfloat16 needs a gradient."""
        low = by_distance.requires_grad and by_distance.dtype == torch.bfloat16
        return by_distance.device.type == "cpu" and (rate > 0 or low)


def depthwise(layer, x):
    """A convolution of each channel over time, on `(batch, channels, frames)`.

    Where its weights learn on a CPU it goes over `LONGEST` frames at a time: from 512 on their gradient takes ten times
    as long at once. The numbers are the same but for rounding.
    """
    frames, reach = x.shape[-1], layer.padding[0]
    learns = layer.weight.requires_grad and torch.is_grad_enabled()
    if x.device.type != "cpu" or not learns or frames <= LONGEST:
        return layer(x)
    step, x = math.ceil(frames / math.ceil(frames / LONGEST)), F.pad(x, (reach, reach))
    pieces = [x[..., first : first + step + 2 * reach] for first in range(0, frames, step)]
    return torch.cat([F.conv1d(piece, layer.weight, layer.bias, groups=layer.groups) for piece in pieces], dim=-1)


class FeedForward(nn.Module):
    """Two convolutions with kernel 1 (so: two Linears over channels) with ReLU between."""

    def __init__(self, dim, units, dropout):
        super().__init__()
        self.w_1, self.w_2, self.dropout = nn.Conv1d(dim, units, 1), nn.Conv1d(units, dim, 1), Dropout(dropout)

    def forward(self, x):
        """`(batch, frames, dim)` -> the same shape."""
        return linear(self.w_2, self.dropout(F.relu(linear(self.w_1, lowered(x)))))


class ConvolutionModule(nn.Module):
    """Gated pointwise, depthwise over time, BatchNorm, Swish, pointwise."""

    def __init__(self, dim, kernel):
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=(kernel - 1) // 2, groups=dim)
        self.norm = nn.BatchNorm1d(dim)
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x):
        """`(batch, frames, dim)` -> the same shape."""
        x = F.glu(linear(self.pointwise_conv1, x), dim=-1)
        x = F.silu(self.norm(depthwise(self.depthwise_conv, x.transpose(1, 2)))).transpose(1, 2)
        return linear(self.pointwise_conv2, x)


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward; a LayerNorm after each sum, and one more at the
    end.
    """

    def __init__(self, dim, heads, units, kernel, dropout, attention_dropout):
        super().__init__()
        self.self_attn = RelativeAttention(dim, heads, attention_dropout)
        self.feed_forward = FeedForward(dim, units, dropout)
        self.feed_forward_macaron = FeedForward(dim, units, dropout)
        self.conv_module = ConvolutionModule(dim, kernel)
        for name in ("norm_ff", "norm_mha", "norm_ff_macaron", "norm_conv", "norm_final"):
            setattr(self, name, nn.LayerNorm(dim, eps=1e-12))
        self.dropout = Dropout(dropout)

    def forward(self, x, positions):
        """`x` `(batch, frames, dim)`, `positions` `(2 * frames - 1, dim)` -> `(batch, frames, dim)`."""
        x = self.norm_ff_macaron(x + 0.5 * self.dropout(self.feed_forward_macaron(x)))
        x = self.norm_mha(x + self.dropout(self.self_attn(x, positions)))
        x = self.norm_conv(x + self.dropout(self.conv_module(x)))
        x = self.norm_ff(x + 0.5 * self.dropout(self.feed_forward(x)))
        return self.norm_final(x)


class Conformer(nn.Module):
    """Input layer (Linear, LayerNorm, Dropout), scaling by sqrt(dim), then `layers` blocks."""

    def __init__(self, inputs, dim, heads, layers, units, kernel, dropout, positional_dropout, attention_dropout):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(inputs, dim), nn.LayerNorm(dim), Dropout(dropout))
        self.encoders = nn.ModuleList(
            [ConformerBlock(dim, heads, units, kernel, dropout, attention_dropout) for _ in range(layers)]
        )
        self.positional_dropout, self.dim = Dropout(positional_dropout), dim
        self._tables = Tables()  # of positions: not buffers, so not in the state dict

    def positions(self, frames, device):
        """The relative position table for `frames` frames on `device`, made once and kept."""
        return self._tables.get(
            ("positions", frames), device, lambda device: relative_positions(frames, self.dim, device)
        )

    def enter(self, features):
        """`(batch, frames, inputs)` -> `(batch, frames, dim)`: what the first block sees."""
        return self.positional_dropout(self.embed(features) * math.sqrt(self.dim))

    def run(self, x, first=0, last=None):
        """Blocks `first` to before `last` on `(batch, frames, dim)`, counted from 0."""
        positions = self.positional_dropout(self.positions(x.shape[1], x.device))
        for block in self.encoders[first:last]:
            x = block(x, positions)
        return x

    def forward(self, features):
        """`(batch, frames, inputs)` -> `(batch, frames, dim)`."""
        return self.run(self.enter(features))
