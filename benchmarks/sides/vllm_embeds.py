"""vLLM on prompt embeddings, by its offline interface; runs in an environment of its own.

The prefixes are computed beforehand by ours (`prefixes.pt`), which favours vLLM by the mapper's
1 % of the work. In the precision of ours, greedy, all prompts at once: its scheduler batches them.
"""

import torch
from vllm import LLM, SamplingParams

from benchmarks.serving import Facts, Work, serve


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The engine over the same weights."""
    model = LLM(
        model=setup["folder"],
        enable_prompt_embeds=True,
        dtype=setup.get("dtype", "bfloat16"),
        max_num_seqs=setup.get("batch", 256),
        max_model_len=64,
        disable_log_stats=True,
        enable_prefix_caching=False,
    )
    prefix_BPD = torch.load(setup["prefixes"], weights_only=True)
    stop = setup["stop_id"]
    wishes = SamplingParams(
        temperature=0.0, max_tokens=setup["longest"], stop_token_ids=[stop], detokenize=False
    )

    def work(order: Facts) -> Facts:
        prompts = [{"prompt_embeds": prefix_PD} for prefix_PD in prefix_BPD[: order["items"]]]
        found = model.generate(prompts, wishes, use_tqdm=False)
        facts: Facts = {"items": len(found)}
        if order.get("show"):
            facts["token_ids"] = [list(one.outputs[0].token_ids) for one in found]
        return facts

    return work, {}


if __name__ == "__main__":
    serve(prepare)
