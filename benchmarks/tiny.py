"""The tiny models' engine: its share of the machine's GEMM-bound limit, and its speed beside transformers' generate.

    python -m benchmarks.tiny [rounds [threads]]

The largest shipped `chain` model.

The limit is what one decoding step at batch 256 would take if only its matrix products took time: they are run alone,
with the step's own shapes, in the same process and in turns with the rest. It is stated twice: for the products with
weights, and with those of attention (scores and weighted sum over the cache) added, which no decoder can leave out.
Ours is measured with 1024 samples of 16 prompts in the queue, prefill, sampling, random numbers and cost accounts
included.

The peer is `LlamaForCausalLM.generate` of `transformers` with the same weights, prompts, temperature and batch of 256
(32 samples of each of 8 prompts). The prompts fill the room for prompts, so that positions agree; that both compute the
same is checked first, by the log-probabilities of our own samples.

Seconds are CPU seconds of this process, so that other work on the machine, which takes cores away, is left out (what it
does to the caches is not).
"""

from __future__ import annotations

import sys
import time
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from isoflop.model.base import Sample, Sampling
from isoflop.model.tiny.decoder import Decoder
from isoflop.model.tiny.engine import Engine, Job
from isoflop.model.tiny.weights import names, read
from isoflop.task.generate import generator

BATCH, GEMM_TARGET, PEER_TARGET = 256, 0.6, 4.0
TASK = generator("chain")


def largest() -> tuple[str, Decoder]:
    """The largest shipped model of the task."""
    shipped = [name for name in names() if name.rpartition("-")[0] == TASK.name]
    return shipped[-1], read(shipped[-1])[0]


def as_llama(decoder: Decoder) -> LlamaForCausalLM:
    """The same network and weights, as `transformers` has them."""
    a = decoder.architecture
    config = LlamaConfig(
        vocab_size=a.vocabulary,
        hidden_size=a.width,
        intermediate_size=a.hidden,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        num_key_value_heads=a.kv_heads,
        head_dim=a.head_width,
        max_position_embeddings=a.context,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": a.rope_base},
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=a.end,
    )
    weights = {
        "model.embed_tokens.weight": decoder.embedding.weight,
        "model.norm.weight": decoder.norm.weight,
        "lm_head.weight": decoder.head.weight,
    }
    for i, block in enumerate(decoder.blocks):
        q, k, v = block.qkv.weight.split([a.width, a.kv_heads * a.head_width, a.kv_heads * a.head_width])
        gate, up = block.gate_up.weight.chunk(2)
        weights |= {
            f"model.layers.{i}.{name}.weight": value
            for name, value in {
                "self_attn.q_proj": q,
                "self_attn.k_proj": k,
                "self_attn.v_proj": v,
                "self_attn.o_proj": block.out.weight,
                "mlp.gate_proj": gate,
                "mlp.up_proj": up,
                "mlp.down_proj": block.down.weight,
                "input_layernorm": block.norm_attention.weight,
                "post_attention_layernorm": block.norm_forward.weight,
            }.items()
        }
    llama = LlamaForCausalLM(config)
    llama.load_state_dict(weights)
    return llama.eval()


def ours(decoder: Decoder, prompts: list[str], samples: int) -> tuple[float, list[Sample]]:
    """Seconds and samples, in order."""
    a, engine = decoder.architecture, Engine(decoder, BATCH)
    sampling = Sampling(max_tokens=a.context)
    start = time.process_time()
    jobs = [Job(a.encode(p), a.positions(p + a.response_end), tuple(range(samples)), sampling) for p in prompts]
    for job in jobs:
        engine.submit(job)
    found: dict[tuple[Job, int], Sample] = {}
    while engine.busy:
        found.update({(f.job, f.slot): f.sample for f in engine.step()})
    return time.process_time() - start, [found[job, slot] for job in jobs for slot in range(samples)]


def theirs(
    llama: LlamaForCausalLM, decoder: Decoder, prompts: list[str], samples: int
) -> tuple[float, list[list[int]]]:
    """Seconds, and the tokens of each sample up to its end."""
    a = decoder.architecture
    start = time.process_time()
    tokens = torch.tensor([a.encode(p) for p in prompts for _ in range(samples)])
    with torch.inference_mode():
        out = llama.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=a.context - a.prompt_room,
            do_sample=True,
            top_k=0,
        )
    taken = time.process_time() - start
    rows = out[:, tokens.shape[1] :].tolist()
    return taken, [row[: row.index(a.end) + 1] if a.end in row else row for row in rows]


def largest_difference(decoder: Decoder, llama: LlamaForCausalLM, prompts: list[str]) -> float:
    """Between the log-probabilities that both give to a sample of each prompt (nats)."""
    apart = 0.0
    for prompt, sample in zip(prompts, ours(decoder, prompts, 1)[1], strict=True):
        ids = [*decoder.architecture.encode(prompt), *(sample.token_ids or ())]
        with torch.inference_mode():
            logits = llama(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].double()
            logits[:, 0] = -torch.inf
        theirs_ = logits.log_softmax(-1)[range(len(ids) - len(prompt)), ids[len(prompt) :]]
        apart = max(apart, float((theirs_ - torch.tensor(sample.logprobs)).abs().max()))
    return apart


def products(decoder: Decoder, keys: int, *, attention: bool) -> float:
    """Seconds that a step's matrix products take alone, at batch 256."""
    a = decoder.architecture
    x, h = torch.randn(BATCH, a.width), torch.randn(BATCH, a.hidden)
    q = torch.randn(BATCH * a.kv_heads, a.heads // a.kv_heads, a.head_width)
    k = torch.randn(a.layers, BATCH * a.kv_heads, keys, a.head_width)
    w = torch.rand(BATCH * a.kv_heads, a.heads // a.kv_heads, keys)
    linear = torch.nn.functional.linear
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(20):
            start = time.process_time()
            for block, cache in zip(decoder.blocks, k, strict=True):
                linear(x, block.qkv.weight)
                if attention:
                    torch.bmm(q, cache.transpose(1, 2))
                    torch.bmm(w, cache)
                linear(x, block.out.weight)
                linear(x, block.gate_up.weight)
                linear(h, block.down.weight)
            linear(x, decoder.head.weight)
            times.append(time.process_time() - start)
    return median(times)


def main() -> int:
    """Print the three ratios with their targets; 1 if the two do not compute the same."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else torch.get_num_threads()
    torch.set_num_threads(threads)
    name, decoder = largest()
    a, llama = decoder.architecture, as_llama(decoder)
    prompts = [TASK.problem("harder", i, 8).prompt for i in range(16)]
    assert {len(p) for p in prompts} == {a.prompt_room}
    apart = largest_difference(decoder, llama, prompts)
    print(f"tiny:{name}, {a.shape.params:,} parameters, batch {BATCH}, {threads} thread(s), {rounds} rounds in turns")
    print(f"log-probabilities of our samples under both: at most {apart:.1e} nats apart")
    keys = -(-a.context // 16) * 16  # what the longest samples of a batch attend to, as the engine pads them
    rows: list[tuple[float, float, float, float, float]] = []
    for _ in range(rounds):
        weights_only = BATCH / products(decoder, keys, attention=False)
        with_attention = BATCH / products(decoder, keys, attention=True)
        full_s, full = ours(decoder, prompts, 64)
        ours_s, few = ours(decoder, prompts[:8], 32)
        peer_s, peer = theirs(llama, decoder, prompts[:8], 32)
        rows.append(
            (
                weights_only,
                with_attention,
                sum(len(s.token_ids or ()) for s in full) / full_s,
                sum(len(s.token_ids or ()) for s in few) / ours_s,
                sum(map(len, peer)) / peer_s,
            )
        )
    columns = (
        "limit, products with weights",
        "limit, attention's too",
        "ours, 1024 queued",
        "ours, 256",
        "transformers, 256",
    )
    for i, column in enumerate(columns):
        print(f"  {column:30} {median(row[i] for row in rows):10,.0f} tokens / CPU s")
    for says, over, under, target in (
        ("ours / limit (products with weights)", 2, 0, GEMM_TARGET),
        ("ours / limit (attention's too)", 2, 1, GEMM_TARGET),
        ("ours / transformers", 3, 4, PEER_TARGET),
    ):
        ratios = sorted(row[over] / row[under] for row in rows)
        verdict = "met" if median(ratios) >= target else "NOT met"
        print(f"  {says:38} {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); target {target:g}: {verdict}")
    return int(apart > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
