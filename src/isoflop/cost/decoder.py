"""What a transformer decoder costs, from its shape alone: parameters, FLOPs and memory traffic in closed form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The shape of a decoder-only transformer (grouped-query attention, gated feed-forward).

    FLOPs are those of the matrix products, a multiply-add being two: projections, feed-forward, attention scores and
    their weighted sum, logits. Attention is causal: the token at position i (from 0) attends to i + 1 keys, itself
    included, for 4 * L * H * h * (i + 1) FLOPs with L layers of H heads of width h. Norms, rotary embedding, softmax,
    activations and the embedding's look-up are not counted (about 1 % of a small model).

    Args:
        n_layers: L.
        d_model: width of the residual stream.
        n_heads: H, query heads.
        n_kv_heads: key and value heads; fewer than H where heads share them.
        head_dim: h, width of a head.
        d_ff: width of the feed-forward layer.
        vocab: V, entries of the vocabulary.
        tied: the logits use the embedding's matrix.
        gated: the feed-forward layer has three matrices (SwiGLU), not two.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab: int
    tied: bool = True
    gated: bool = True

    @property
    def layer_params(self) -> int:
        """Weights in the matrices of one layer; norms and biases apart."""
        attention = 2 * self.d_model * self.head_dim * (self.n_heads + self.n_kv_heads)
        return attention + (3 if self.gated else 2) * self.d_model * self.d_ff

    @property
    def head_params(self) -> int:
        """Weights of the matrix that makes logits."""
        return self.d_model * self.vocab

    @property
    def params(self) -> int:
        """All parameters: matrices, embedding (once if tied), two norms a layer and the last one; no biases."""
        norms = (2 * self.n_layers + 1) * self.d_model
        return self.n_layers * self.layer_params + (1 if self.tied else 2) * self.head_params + norms

    def flops(self, tokens: int, cached: int = 0, logits: int = 1) -> int:
        """FLOPs of computing `tokens` that follow `cached` ones whose keys and values are at hand.

        The cached ones are attended to, not computed again. A prompt of T tokens is `flops(T)`; n tokens sampled
        after it cost `flops(n - 1, T, n - 1)` more, since the prompt's own logits give the first, and the last is
        never fed back.

        Args:
            tokens: T computed (count).
            cached: tokens before them (count).
            logits: positions whose logits are computed (count).

        >>> tiny = DecoderShape(n_layers=1, d_model=2, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=2, vocab=3)
        >>> tiny.flops(2) == 2 * (2 * tiny.layer_params) + 4 * 2 * (1 + 2) + 2 * 6
        True
        """
        keys = tokens * cached + tokens * (tokens + 1) // 2
        attention = 4 * self.n_layers * self.n_heads * self.head_dim * keys
        return 2 * tokens * self.n_layers * self.layer_params + attention + 2 * logits * self.head_params

    def kv_bytes(self, tokens: int, value_bytes: float = 2) -> float:
        """Memory that the keys and values of `tokens` take (bytes).

        Args:
            tokens: in the cache (count).
            value_bytes: a number's size (bytes); 2 for half precision.
        """
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * value_bytes * tokens

    def kv_traffic(self, tokens: int, cached: int = 0, value_bytes: float = 2) -> float:
        """Traffic to the cache while one sequence advances by `tokens` in one step (bytes).

        All keys and values are read once, the new ones' own included, and the new ones are written; that many
        queries share one reading is what makes a prompt cheaper than as many decoded tokens.
        """
        return self.kv_bytes(cached + 2 * tokens, value_bytes)
