"""Beam search, batched with a cache: as transformers does it, and exactly as ClipCap's code does.

Shapes:  B images   K beams   R = B * K rows   T tokens so far   V vocabulary   M kept continuations
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.choosing import Constraints
from captioner.decoding import Beam, Generated
from captioner.errors import ModelError
from captioner.generation import TokenModel

_NEVER = -1e30  # finite: 0 * -inf would be nan


@torch.inference_mode()
def clipcap_beams(
    language: TokenModel, prefix_BPD: Tensor, settings: Beam
) -> list[list[Generated]]:
    """The beams of `generate_beam` in rmokady/CLIP_prefix_caption's predict.py, best first.

    An ended beam goes on with token 0 at no cost and competes with the growing ones at every
    step; beams are ranked by the mean log-probability of their tokens, the stop token included.
    The search ends when all beams have ended or at `max_tokens`.
    """
    if not len(prefix_BPD):
        return []
    images, k = len(prefix_BPD), settings.beams
    beams = _Beams(language, prefix_BPD, settings)
    score_BK, token_BK = beams.next_logprob_RV.view(images, 1, -1)[:, 0].topk(k, dim=-1)
    beams.spread()
    beams.follow(torch.zeros_like(token_BK), token_BK, torch.ones_like(token_BK, dtype=torch.bool))
    stop_BK = beams.is_stop(token_BK)
    length_BK = torch.ones_like(score_BK)
    ended_BK = stop_BK.clone()
    while beams.step < settings.max_tokens and not bool(ended_BK.all()):
        next_BKV = beams.advance().view(images, k, -1)
        vocabulary = next_BKV.shape[-1]
        next_BKV = next_BKV.masked_fill(ended_BK[..., None], -torch.inf)
        next_BKV[..., 0] = torch.where(ended_BK, 0.0, next_BKV[..., 0])
        length_BK = length_BK + ~ended_BK
        mean_BKV = (score_BK[..., None] + next_BKV) / length_BK[..., None]
        mean_BK, flat_BK = mean_BKV.flatten(1).topk(k, dim=-1)
        source_BK, token_BK = flat_BK // vocabulary, flat_BK % vocabulary
        ended_BK, length_BK = ended_BK.gather(1, source_BK), length_BK.gather(1, source_BK)
        score_BK = mean_BK * length_BK
        beams.follow(source_BK, token_BK, ~ended_BK)
        ended_BK = ended_BK | beams.is_stop(token_BK)
    order_BK = (score_BK / length_BK).argsort(dim=-1, descending=True, stable=True)
    return [
        [beams.generated(image, at) for at in order[: settings.n]]
        for image, order in enumerate(order_BK.tolist())
    ]


@torch.inference_mode()
def default_beams(
    language: TokenModel, prefix_BPD: Tensor, settings: Beam
) -> list[list[Generated]]:
    """The captions of transformers' `generate(num_beams=K)`, early_stopping off, best first.

    Of the K likeliest continuations those that end are ranked among the image's ended ones by
    log-probability / length ** length_penalty, and the K likeliest others grow on. An image is
    done when no growing beam, at its present length, would rank before its worst ended one.
    """
    if not len(prefix_BPD):
        return []
    images, k = len(prefix_BPD), settings.beams
    beams = _Beams(language, prefix_BPD, settings)
    ended: list[list[_Ended]] = [[] for _ in range(images)]
    done = [False] * images
    score_BK = torch.full((images, k), _NEVER, device=prefix_BPD.device)
    score_BK[:, 0] = 0.0
    next_BKV = beams.next_logprob_RV[:, None].expand(-1, k, -1)
    beams.spread()
    kept = k * max(2, 1 + len(settings.stop_ids))  # enough even if every stop token is among them
    while True:
        vocabulary = next_BKV.shape[-1]
        total_BX = (score_BK[..., None] + next_BKV).flatten(1)
        best_BM, flat_BM = total_BX.topk(min(kept, total_BX.shape[1]), dim=-1)
        source_BM, token_BM = flat_BM // vocabulary, flat_BM % vocabulary
        last = beams.step + 1 == settings.max_tokens
        stop_BM = beams.is_stop(token_BM) | last
        _collect(ended, done, beams, (best_BM, source_BM, token_BM, stop_BM))
        growing_BM = best_BM.masked_fill(beams.is_stop(token_BM), _NEVER)
        score_BK, place_BK = growing_BM.topk(k, dim=-1)
        source_BK, token_BK = source_BM.gather(1, place_BK), token_BM.gather(1, place_BK)
        beams.follow(source_BK, token_BK, torch.ones_like(token_BK, dtype=torch.bool))
        _settle(ended, done, score_BK[:, 0].tolist(), beams.step, settings)
        if last or all(done):
            return [[one.generated for one in rows[: settings.n]] for rows in ended]
        next_BKV = beams.advance().view(images, k, -1)


@dataclass(frozen=True, slots=True)
class _Ended:
    rank: float
    generated: Generated


def _collect(
    ended: list[list[_Ended]],
    done: list[bool],
    beams: "_Beams",
    found: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Rank the continuations that end among those of their image; only the K best may stay."""
    settings, length = beams.settings, beams.step + 1
    columns = [tensor.tolist() for tensor in found]
    for image, (scores, sources, tokens, stops) in enumerate(zip(*columns, strict=True)):
        if done[image]:
            continue
        best = list(zip(scores, sources, tokens, stops, strict=True))[: settings.beams]
        for score, source, token, stop in best:
            if stop and score > _NEVER / 2:
                rank = score / length**settings.length_penalty
                one = beams.ending(image, source, token)
                ended[image].append(_Ended(rank, one))
        ended[image].sort(key=lambda one: -one.rank)
        del ended[image][settings.beams :]


def _settle(
    ended: list[list[_Ended]], done: list[bool], best: list[float], length: int, settings: Beam
) -> None:
    for image, score in enumerate(best):
        full = len(ended[image]) >= settings.beams
        could = score / length**settings.length_penalty
        done[image] = done[image] or (full and ended[image][-1].rank >= could)


class _Beams:
    """K rows an image: their tokens, exact log-probabilities and the model's state."""

    def __init__(self, language: TokenModel, prefix_BPD: Tensor, settings: Beam) -> None:
        language.check_room(prefix_BPD.shape[1] + settings.max_tokens)
        self.settings = settings
        self.step = 0
        """Tokens on every row."""
        self._language = language
        self._constraints = Constraints(settings)
        self._images, self._device = len(prefix_BPD), prefix_BPD.device
        self._stops = torch.tensor(settings.stop_ids, dtype=torch.long, device=self._device)
        next_BV, self._state = language.open(prefix_BPD)
        if settings.beams > next_BV.shape[1]:
            raise ModelError(
                f"{settings.beams} beams are more than the model's {next_BV.shape[1]} tokens."
            )
        self.next_logprob_RV = self._shaped(next_BV, self._no_tokens(self._images))
        self._true_RV = next_BV.float().log_softmax(dim=-1)
        self._tokens_RT = self._no_tokens(self._images * settings.beams)
        self._logprob_R = torch.zeros(
            len(self._tokens_RT), dtype=torch.float64, device=self._device
        )

    def is_stop(self, token_BX: Tensor) -> Tensor:
        """Whether each token is a stop token, in the same shape."""
        return torch.isin(token_BX, self._stops)

    def spread(self) -> None:
        """Give every beam of an image the image's state and distribution."""
        row_R = torch.arange(self._images, device=self._device)
        row_R = row_R.repeat_interleave(self.settings.beams)
        self._state = self._language.select(self._state, row_R)
        self._true_RV = self._true_RV[row_R]

    def follow(self, source_BK: Tensor, token_BK: Tensor, counts_BK: Tensor) -> None:
        """Let beam k go on from its image's beam `source` with `token`, where it still counts."""
        first_B1 = torch.arange(self._images, device=self._device)[:, None]
        first_B1 = first_B1 * self.settings.beams
        row_R, token_R = (first_B1 + source_BK).flatten(), token_BK.flatten()
        chosen_R = self._true_RV[row_R].gather(1, token_R[:, None])[:, 0]
        self._logprob_R = self._logprob_R[row_R] + chosen_R.double() * counts_BK.flatten()
        self._tokens_RT = torch.cat([self._tokens_RT[row_R], token_R[:, None]], dim=1)
        self._state = self._language.select(self._state, row_R)
        self.step += 1

    def advance(self) -> Tensor:
        """Read the last token of every row: log-probabilities of the next, logprob_RV."""
        next_RV, self._state = self._language.step(self._tokens_RT[:, -1], self._state)
        self._true_RV = next_RV.float().log_softmax(dim=-1)
        return self._shaped(next_RV, self._tokens_RT)

    def ending(self, image: int, source: int, token: int) -> Generated:
        """Beam `source` of an image followed by `token`, which ends it."""
        row = image * self.settings.beams + source
        logprob = float(self._logprob_R[row] + self._true_RV[row, token].double())
        said = self._tokens_RT[row].tolist()
        stops = token in self.settings.stop_ids
        return Generated(
            tuple(said if stops else [*said, token]), logprob, token if stops else None
        )

    def generated(self, image: int, at: int) -> Generated:
        """Beam `at` of an image up to its stop token."""
        row = image * self.settings.beams + at
        said = self._tokens_RT[row].tolist()
        ends = [place for place, token in enumerate(said) if token in self.settings.stop_ids]
        end = ends[0] if ends else len(said)
        stop = said[end] if ends else None
        return Generated(tuple(said[:end]), float(self._logprob_R[row]), stop)

    def _shaped(self, next_RV: Tensor, token_RT: Tensor) -> Tensor:
        logprob_RV = next_RV.float().log_softmax(dim=-1)
        return self._constraints.shape(logprob_RV, token_RT)

    def _no_tokens(self, rows: int) -> Tensor:
        return torch.zeros(rows, 0, dtype=torch.long, device=self._device)
