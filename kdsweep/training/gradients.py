"""How much each part of a loss moves a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class GradientShares:
    """Shares of a loss's parts in the norm of a network's gradient.

    The share of part k is ``‖g_k‖ / Σ_j ‖g_j‖``, with g the gradient of the weighted part with
    respect to all weights of the network. It costs one more backward pass for each part but one.

    Args:
        parameters: The network's weights, without gradients as yet.
        parts: Weighted parts of the loss by name, all on one graph.
        rest: Name of the part that is left when the gradients of the others are taken from that of
            the whole loss.
    """

    def __init__(
        self, parameters: Sequence[Tensor], parts: Mapping[str, Tensor], *, rest: str
    ) -> None:
        self._parameters = parameters
        self._rest = rest
        self._norms: dict[str, Tensor] = {}
        self._others: list[Tensor] | None = None
        for name, part in parts.items():
            if name != rest:
                gradients = _gradients(part, parameters)
                self._norms[name] = _norm(gradients)
                if self._others is None:
                    self._others = gradients
                else:
                    torch._foreach_add_(self._others, gradients)

    def after_backward(self) -> dict[str, Tensor]:
        """The shares by name, once the whole loss has given its gradients to the parameters."""
        whole = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        rest = whole if self._others is None else list(torch._foreach_sub(whole, self._others))
        norms = {self._rest: _norm(rest), **self._norms}
        total = torch.stack(list(norms.values())).sum()
        total = total.clamp(min=torch.finfo(total.dtype).tiny)
        return {name: norm / total for name, norm in norms.items()}


def _gradients(part: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(part, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _norm(gradients: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(gradients)).norm()
