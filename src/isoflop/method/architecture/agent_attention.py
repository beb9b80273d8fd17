"""Agent attention: a few agent tokens gather from all keys and hand on to all queries."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isoflop.cost import Meter
from isoflop.method.shrink import Original, Refused, ShrinkMethod, Shrunk, backward


def agent_attention(q: Tensor, agents: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q A^T) softmax(A K^T) V, both softmaxes scaled by the width of a head.

    The same as linear attention with the feature maps softmax(Q A^T) and softmax(A K^T)^T: of rank n at most.

    Args:
        q: queries [..., N, d].
        agents: [..., n, d].
        k: keys [..., N, d].
        v: values [..., N, e].
    """
    gathered = functional.scaled_dot_product_attention(agents, k, v)
    return functional.scaled_dot_product_attention(q, agents, gathered)


class AgentMultihead(nn.Module):
    """Multi-head self-attention through agents, with the projections of `nn.MultiheadAttention`.

    The agents of each head are its queries, averaged over `agents` stretches of neighbouring tokens (over squares where
    tokens and agents are both square numbers). Depthwise convolution of the values is added, which starts as nothing:
    the agents' low rank loses what differs from token to token. The position biases of the paper are left out.

    Args:
        attention: to take the place of.
        agents: n (count).
    """

    # What PyTorch's TransformerEncoderLayer looks at before it calls; without one bias it keeps off its fused kernel.
    in_proj_bias = None
    _qkv_same_embed_dim = True

    def __init__(self, attention: nn.MultiheadAttention, agents: int) -> None:
        super().__init__()
        self.agents, self.num_heads = agents, attention.num_heads
        given = cast(Any, attention)
        self.out: nn.Linear = copy.deepcopy(given.out_proj)
        self.batch_first = bool(given.batch_first)
        width, has_bias = int(given.embed_dim), given.in_proj_bias is not None
        self.into = nn.Linear(width, 3 * width, bias=has_bias)
        self.local = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)
        with torch.no_grad():
            self.into.weight.copy_(given.in_proj_weight)
            if has_bias:
                self.into.bias.copy_(given.in_proj_bias)
            self.local.weight.zero_()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Self-attention as `nn.MultiheadAttention` is called for it; there are no weights to return.

        Raises:
            ValueError: a mask: agents gather from all tokens, so that none can be hidden from one query only.
        """
        if is_causal or attn_mask is not None or key_padding_mask is not None:
            raise ValueError("agent attention has no masks: its agents see all tokens, so causality cannot be kept")
        x = query if self.batch_first else query.transpose(0, 1)
        q, k, v = self.into(x).chunk(3, 2)
        heads = [part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (q, k, v)]
        agents = pooled(heads[0], self.agents)
        mixed = cast(Any, agent_attention(heads[0], agents, heads[1], heads[2]).transpose(1, 2))
        out = cast(Any, self.out)(mixed.flatten(2) + self.local(v.transpose(1, 2)).transpose(1, 2))
        return (out if self.batch_first else out.transpose(0, 1)), None


def pooled(q: Tensor, agents: int) -> Tensor:
    """Queries [B, H, N, d] averaged to [B, H, n, d]: over squares where N and n are square, else over stretches."""
    side, small = (round(count**0.5) for count in (q.shape[2], agents))
    columns: Any = cast(Any, q).transpose(2, 3).flatten(0, 1)
    if side**2 == q.shape[2] and small**2 == agents:
        made = functional.adaptive_avg_pool2d(columns.unflatten(2, (side, side)), small).flatten(2)
    else:
        made = functional.adaptive_avg_pool1d(columns, agents)
    return cast(Any, made).unflatten(0, q.shape[:2]).transpose(2, 3)


@final
@dataclass(frozen=True)
class AgentAttention(ShrinkMethod):
    """Replace softmax attention by agent attention, and train a little.

    n agents, the queries averaged over regions, gather from all keys and hand on to all queries: two softmax attentions
    of N by n in place of one of N by N. So it is linear in the tokens, with the sharpness of a softmax. It pays where N
    is large against 2 n and the attention itself, not the layers around it, is what costs. Below that it loses.

    Applies to every `nn.MultiheadAttention` used for self-attention; one that is used with a mask is refused.

    Cost: `steps` training steps over `batch` examples for each number of agents.
    Buys: FLOPs of attention by 2 n / N; an approximation of rank n, whose error no law tells.
    Args:
        agents: n (count), from dear to cheap; one point each.
        steps: of training after the replacement (count); 0 for none.
        batch: examples in a step (count).
        rate: learning rate.
    """

    source = "agent_attention"
    cost = "points x steps x batch x (forward and backward)"
    buys = "FLOPs of attention x 2 agents / tokens; no law known of the quality"

    agents: tuple[int, ...] = (49, 16, 9)
    steps: int = 100
    batch: int = 50
    rate: float = 5e-4

    def __post_init__(self) -> None:
        if not self.agents or min(self.agents) < 1:
            raise ValueError(f"agents={self.agents} must be one number or more, each at least 1")

    def run(self, problem: Original, meter: Meter, rng: np.random.Generator) -> Iterator[Shrunk]:
        """Yield a model for each number of agents; see `ShrinkMethod.run`."""
        places = _attentions(problem.module)
        if not places:
            raise Refused("no attention: none of its modules is nn.MultiheadAttention")
        _refuse_masks(problem.module, places, tuple(x[:1] for x in problem.calibration.inputs))
        draw = torch.Generator().manual_seed(int(rng.integers(2**31)))
        for agents in sorted(self.agents, reverse=True):
            model = with_agents(problem.copy(), agents)
            optimizer: Any = torch.optim.AdamW(model.parameters(), self.rate)
            data, work = problem.calibration, problem.workload
            for _ in problem.repeat(self.steps, "train"):
                part = data.rows(torch.randint(len(data), (min(self.batch, len(data)),), generator=draw))
                with torch.no_grad():
                    wanted = problem.teacher(*part.inputs)
                loss = work.imitation(model(*part.inputs), wanted)
                optimizer.zero_grad()
                backward(loss, model.parameters())
                optimizer.step()
            yield Shrunk(model.eval(), f"{agents} agents in {len(places)} attentions")


def with_agents(model: nn.Module, agents: int) -> nn.Module:
    """The model with every `nn.MultiheadAttention` replaced, in place."""
    for name in _attentions(model):
        attention = cast(nn.MultiheadAttention, model.get_submodule(name))
        model.set_submodule(name, AgentMultihead(attention, agents))
    return model


def _attentions(model: nn.Module) -> list[str]:
    modules = cast(Iterator[tuple[str, nn.Module]], model.named_modules())
    return [name for name, part in modules if isinstance(part, nn.MultiheadAttention) and name]


def _refuse_masks(model: nn.Module, places: list[str], example: tuple[Tensor, ...]) -> None:
    """Run shapes through the model, and look at how its attentions are called."""

    def look(name: str) -> Any:
        def called(module: nn.MultiheadAttention, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")
            call = dict(zip(names, given)) | named
            if call.get("is_causal") or call.get("attn_mask") is not None:
                raise Refused(f"{name} is causal or masked: agents see all tokens, so what comes later would leak")
            if call.get("key_padding_mask") is not None:
                raise Refused(f"{name} hides padding: agents would gather from it")
            if call["key"] is not call["query"] and call["key"].shape != call["query"].shape:
                raise Refused(f"{name} attends to other tokens than its own")
            if not cast(Any, module)._qkv_same_embed_dim or module.bias_k is not None:
                raise Refused(f"{name} has keys or values of another width, or biases of their own")

        return called

    ghost = copy.deepcopy(model).to("meta").train()  # in training mode PyTorch's fused layers do call their attention
    for name in places:
        ghost.get_submodule(name).register_forward_pre_hook(look(name), with_kwargs=True)
    ghost(*(x.to("meta") for x in example))
