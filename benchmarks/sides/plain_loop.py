"""One image at a time, the whole sequence read again for every token: as ClipCap's notebook does.

float32, logits of all positions, no cache kept (rmokady/CLIP_prefix_caption, `generate2`).
"""

import torch
from transformers import AutoModelForCausalLM

from benchmarks.gated import Gated, few_rows, gated_images
from benchmarks.serving import Facts, Work, serve
from captioner.model import load_model


def prepare(setup: Facts) -> tuple[Work, Facts]:
    """The same weights as transformers loads them."""
    torch.set_num_threads(setup["threads"])
    mapper = load_model(setup["folder"], dtype="float32").mapper
    network = AutoModelForCausalLM.from_pretrained(f"{setup['folder']}/lm").eval()
    gated = Gated(**setup["gated"])
    image_BC, lengths = gated_images(gated, setup["count"])

    @torch.inference_mode()
    def caption(image_1C: torch.Tensor) -> list[int]:
        sequence_1TD, token_ids = mapper(image_1C), list[int]()
        while len(token_ids) < gated.longest:
            logits_1TV = network(inputs_embeds=sequence_1TD).logits
            token_ids.append(int(logits_1TV[0, -1].argmax()))
            if token_ids[-1] == gated.stop_id:
                break
            token_11 = torch.tensor([[token_ids[-1]]])
            token_11D = network.transformer.wte(token_11)
            sequence_1TD = torch.cat([sequence_1TD, token_11D], dim=1)
        return token_ids

    def work(order: Facts) -> Facts:
        rows = [caption(image_BC[at : at + 1]) for at in few_rows(lengths, order["items"])]
        return {"items": len(rows), **({"token_ids": rows} if order.get("show") else {})}

    return work, {}


if __name__ == "__main__":
    serve(prepare)
