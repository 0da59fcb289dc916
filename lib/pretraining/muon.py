"""Muon: each matrix of weights moves by its momentum made orthogonal, so in all directions alike (Jordan et al.,
2024).
"""

import torch
import torch.distributed as dist


class Muon(torch.optim.AdamW):
    """Muon for matrices (and convolutions, flattened), AdamW for all else; the same learning rate serves both.

    A Muon step is scaled to about the size of one of AdamW (Liu et al., arXiv 2502.16982). `torch.optim.Muon` takes
    matrices alone and works in bfloat16, which most CPUs are slow at. Processes of one group share the work: each makes
    its part of the steps.
    """

    def __init__(self, parameters, lr, weight_decay=0.0, momentum=0.95):
        """Of `parameters`, those frozen are left out."""
        matrices, rest = [], []
        for p in parameters:
            if p.requires_grad:  # depthwise convolutions and vectors of any shape have no matrix to speak of
                (matrices if p.dim() > 1 and min(len(p), p[0].numel()) >= 64 else rest).append(p)
        super().__init__(
            [{"params": rest, "matrices": False}, {"params": matrices, "matrices": True}],
            lr=lr,
            weight_decay=weight_decay,
        )
        self.momentum = momentum

    def __setstate__(self, state):
        torch.optim.Optimizer.__setstate__(self, state)  # Adam's own looks for its "step" in the state of matrices too

    @torch.no_grad()
    def step(self, closure=None):
        groups, shapes = self.param_groups, {}
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for p in group["params"] if group["matrices"] else []:
                if p.grad is not None:
                    kept = self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(p.grad, 1 - self.momentum)
                    shapes.setdefault(p.flatten(1).shape, []).append(
                        (p, p.grad.lerp(kept, self.momentum).flatten(1), group)
                    )
        for shape, found in shapes.items():
            steps = shared_orthogonal(torch.stack([step for _, step, _ in found]))
            for (p, _, group), step in zip(found, steps):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                    step.view_as(p), alpha=-0.2 * max(shape) ** 0.5 * group["lr"]
                )
        return loss


def shared_orthogonal(stack):
    """`orthogonal` of `stack`, each process of the group (where there is one) computing its part."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return orthogonal(stack)
    out, mine = torch.zeros_like(stack), slice(dist.get_rank(), None, dist.get_world_size())
    if len(stack[mine]):
        out[mine] = orthogonal(stack[mine])
    dist.all_reduce(out)
    return out


def orthogonal(stack, iterations=5):
    """`(count, rows, columns)` -> the same with all singular values near 1 (0.7 to 1.2), by Newton and Schulz's
    iteration.
    """
    tall = stack.shape[1] > stack.shape[2]
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.mT if tall else x
