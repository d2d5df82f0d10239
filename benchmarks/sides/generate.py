"""transformers' `generate` behind ClipCap's mapper: batches of one size, beams or greedy."""

import torch
from transformers import AutoModelForCausalLM

from benchmarks.gated import Gated, gated_images
from benchmarks.serving import Facts, Work, serve
from captioner.model import load_model


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The same weights as transformers loads them; dtype and batch size come with each order."""
    torch.set_num_threads(setup["threads"])
    mapper = load_model(setup["folder"], dtype="float32").mapper
    gated = Gated(**setup["gated"])
    image_BC, _ = gated_images(gated, setup["count"])
    loaded = {}
    for name in setup["dtypes"]:
        kind = getattr(torch, name)
        network = AutoModelForCausalLM.from_pretrained(
            f"{setup['folder']}/lm", dtype=kind, attn_implementation="sdpa"
        )
        loaded[name] = network.eval()

    @torch.inference_mode()
    def work(order: Facts) -> Facts:
        network, rows = loaded[order["dtype"]], []
        mapper.to(network.dtype)
        for part_BC in torch.split(image_BC[: order["items"]], order["batch"]):
            prefix_BPD = mapper(part_BC.to(network.dtype))
            written_BT = network.generate(
                inputs_embeds=prefix_BPD,
                attention_mask=torch.ones(prefix_BPD.shape[:2], dtype=torch.long),
                max_new_tokens=gated.longest,
                eos_token_id=gated.stop_id,
                pad_token_id=gated.stop_id,
                do_sample=False,
                num_beams=setup.get("beams", 1),
            )
            rows += written_BT.tolist()
        found: Facts = {"items": len(rows)}
        if order.get("show"):
            found["token_ids"] = [_cut(row, gated.stop_id) for row in rows]
        return found

    return work, {}


def _cut(row: list[int], stop: int) -> list[int]:
    return row[: row.index(stop) + 1] if stop in row else row


if __name__ == "__main__":
    serve(prepare)
