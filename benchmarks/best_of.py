"""What drawing more captions and keeping the best is worth: `python -m benchmarks.best_of TOWER`.

TOWER is an encoder that was trained apart from the model's own, for instance
`python -m captioner.nano.train_encoder --out TOWER --seed 7`. Scenes that no training has seen are
captioned greedily and with 40 draws; the first n of them are the n draws of a smaller run, because
a draw depends on its number alone. Each choice is judged by the scene: true in every attribute.

Shapes:  N scenes   C embedding
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace

import torch

from benchmarks.recipes import EXAM_SEED
from captioner import CaptionModel, Encoder, Greedy, Sample, load_encoder, load_model, scenes
from captioner.alignment import cosines
from captioner.captions import Caption
from captioner.decoding import Decoding
from captioner.devices import use_threads

NUMBERS = (1, 5, 20, 40)
BATCH = 64


@dataclass(frozen=True, slots=True)
class Exam:
    """Scenes with their embeddings by the model's encoder and by the scorer."""

    drawn: list[scenes.Scene]
    read_NC: torch.Tensor
    scored_NC: torch.Tensor


def main() -> int:
    """Print a row a number of draws, as JSON and as a table."""
    chosen = _arguments()
    use_threads(chosen.threads)
    model = load_model(chosen.model, device="cpu", dtype="float32")
    scorer = load_encoder(chosen.tower, device="cpu", dtype="float32")
    exam = examined(chosen.scenes, load_encoder("nano", device="cpu"), scorer)
    rows = [choice("greedy", write(model, exam, Greedy()), exam, scorer)]
    drawing = Sample(n=max(NUMBERS), top_p=chosen.top_p, temperature=chosen.temperature)
    drawn = write(model, exam, drawing)
    for n in NUMBERS:
        row = choice(f"best of {n}", [captions[:n] for captions in drawn], exam, scorer)
        row["images_per_second"] = rate(model, exam, replace(drawing, n=n), scorer)
        rows.append(row)
    rows[0]["images_per_second"] = rate(model, exam, Greedy(), scorer)
    for row in rows:
        sys.stdout.write(json.dumps(row) + "\n")
    for row in rows:
        print(
            f"| {row['captions']} | {row['attribute_true']:.3f} | {row['cosine']:.4f} | "
            f"{row['images_per_second']:.1f} |"
        )
    return 0


def examined(count: int, encoder: Encoder, scorer: Encoder) -> Exam:
    """Scenes whose descriptions are held out of all training, drawn and embedded twice."""
    drawn = scenes.sample(count, EXAM_SEED, held_out=True)
    pictures = [scenes.draw(scene, size=128, seed=at) for at, scene in enumerate(drawn)]
    read_NC, scored_NC = (
        torch.cat(
            [
                one.encode_images(torch.stack([one.preprocess(picture) for picture in part]))
                for part in (pictures[at : at + BATCH] for at in range(0, count, BATCH))
            ]
        )
        for one in (encoder, scorer)
    )
    return Exam(drawn, read_NC, scored_NC)


def write(model: CaptionModel, exam: Exam, decoding: Decoding) -> list[list[Caption]]:
    """The candidates of every scene, drawn with numbers of its own."""
    ends = {"max_tokens": model.decoding.max_tokens, "stop_ids": model.decoding.stop_ids}
    decoding = replace(decoding, **ends)  # type: ignore[type-var]
    size = max(1, BATCH // decoding.candidates)
    found: list[list[Caption]] = []
    for at in range(0, len(exam.drawn), size):
        part_BC = exam.read_NC[at : at + size]
        ids = [f"scene {at + number}" for number in range(len(part_BC))]
        found += model.candidates(part_BC, decoding, ids)
    return found


def choice(name: str, drawn: list[list[Caption]], exam: Exam, scorer: Encoder) -> dict[str, object]:
    """How true and how well scored the best of each scene's candidates are."""
    owner = [at for at, captions in enumerate(drawn) for _ in captions]
    texts = [one.text for captions in drawn for one in captions]
    scores = iter(cosines(scorer, texts, exam.scored_NC, owner).own)
    best = [max((next(scores), one.logprob, one.text) for one in row) for row in drawn]
    right = sum(
        scenes.attribute_true(text, scene)
        for (_, _, text), scene in zip(best, exam.drawn, strict=True)
    )
    return {
        "captions": name,
        "attribute_true": right / len(best),
        "cosine": sum(score for score, _, _ in best) / len(best),
    }


def rate(model: CaptionModel, exam: Exam, decoding: Decoding, scorer: Encoder) -> float:
    """Scenes captioned and scored a second, from their embeddings, on the first 64."""
    few = Exam(exam.drawn[:BATCH], exam.read_NC[:BATCH], exam.scored_NC[:BATCH])
    began = time.perf_counter()
    choice("", write(model, few, decoding), few, scorer)
    return len(few.drawn) / (time.perf_counter() - began)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tower", help="folder of the encoder that scores")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
