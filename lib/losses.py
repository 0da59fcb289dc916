"""Training losses. They take `(est, ref)` in this order; waves are float32 `(batch, samples)`."""

import torch


def negative_si_snr(est, ref, lengths=None, eps=1e-8):
    """Negative scale-invariant signal-to-noise ratio in dB, one value an item: lower is better.

    est, ref: `(batch, samples)`; lengths: samples that count in each item, `(batch,)`, the rest is ignored.
    Both waves are made zero-mean first. A silent reference gives a large positive value, not NaN.
    Raises ValueError when the shapes differ. Source: Luo and Mesgarani, TasNet (arXiv 1711.00541); Le Roux et al.,
    arXiv 1811.02508.
    """
    if est.shape != ref.shape:
        raise ValueError(f"est and ref must have one shape; got {tuple(est.shape)} and {tuple(ref.shape)}")
    est, ref = est.float(), ref.float()
    if lengths is None:
        est = est - est.mean(-1, keepdim=True)
        ref = ref - ref.mean(-1, keepdim=True)
    else:
        lengths = torch.as_tensor(lengths, device=est.device)[:, None]
        counts = torch.arange(est.shape[-1], device=est.device)[None] < lengths
        est, ref = est * counts, ref * counts
        est = (est - est.sum(-1, keepdim=True) / lengths) * counts
        ref = (ref - ref.sum(-1, keepdim=True) / lengths) * counts
    scaled = (est * ref).sum(-1, keepdim=True) / (ref.square().sum(-1, keepdim=True) + eps) * ref
    noise = est - scaled
    return -10 * torch.log10((scaled.square().sum(-1) + eps) / (noise.square().sum(-1) + eps))
