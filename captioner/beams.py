"""Beam search: as transformers does it, and exactly as ClipCap's code does.

Shapes:  G slots   K beams   N = G * K rows   S slots in question   T tokens   V vocabulary
         M kept continuations
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

import torch
from torch import Tensor

from captioner.choosing import Constraints
from captioner.decoding import Beam, Generated
from captioner.engine.prefixes import Prefixes
from captioner.engine.slots import Next
from captioner.errors import ModelError
from captioner.generation import TokenModel, write

_NEVER = -1e30  # finite: 0 * -inf would be nan
_LOST = Generated((), nan)
"""What is written where no beam has a score that is a number."""


def beam_search(language: TokenModel, prefixes: Prefixes, settings: Beam) -> list[list[Generated]]:
    """The `settings.n` best captions after each prefix, best first."""
    language.check_room(prefixes.length + settings.max_tokens)
    kind = ClipcapBeams if settings.mode == "clipcap" else DefaultBeams
    return write(language, prefixes, kind(settings, prefixes.device))


@dataclass(frozen=True, slots=True)
class _Ways:
    """Continuations of some rows: tokens, what they are ranked by, and how likely they are."""

    token_SKM: Tensor
    rank_SKM: Tensor
    logprob_SKM: Tensor

    def pick(self, source_SX: Tensor, place_SX: Tensor) -> tuple[Tensor, Tensor]:
        """Token and log-probability at places of the beams they continue."""
        flat_SX = source_SX * self.token_SKM.shape[2] + place_SX
        token_SX = self.token_SKM.flatten(1).gather(1, flat_SX)
        return token_SX, self.logprob_SKM.flatten(1).gather(1, flat_SX)


class _Beams:
    """K rows a slot: their tokens, exact log-probabilities and scores."""

    def __init__(self, settings: Beam, device: torch.device) -> None:
        self.settings, self.beams, self._device = settings, settings.beams, device
        self._constraints = Constraints(settings)
        self._stops = torch.tensor(settings.stop_ids, dtype=torch.long, device=device)
        self._kept = self.beams

    def open(self, slots: int) -> None:
        """Make room for captions in so many slots."""
        form = (slots, self.beams)
        self._tokens_GKT = torch.zeros(
            *form, self.settings.max_tokens, dtype=torch.long, device=self._device
        )
        self._logprob_GK = torch.zeros(form, dtype=torch.float64, device=self._device)
        self._score_GK = torch.zeros(form, device=self._device)
        self._written = [0] * slots

    def begin(self, slots: Sequence[int], numbers: Sequence[int], first: Next) -> None:
        """Begin captions in these slots, `first` having a row for each."""
        del numbers
        slot_S = torch.tensor(slots, device=self._device)
        self._tokens_GKT[slot_S] = 0
        self._logprob_GK[slot_S] = 0.0
        self._score_GK[slot_S] = 0.0
        for slot in slots:
            self._written[slot] = 0
        self._grow(slots, self._ways(first, len(slots), 1, slot_S))

    def tokens(self) -> Tensor:
        """The last token of every row, token_GK."""
        most = self.settings.max_tokens
        last = [min(max(written, 1), most) - 1 for written in self._written]
        last_G = torch.tensor(last, device=self._device)
        whose = last_G[:, None, None].expand(-1, self.beams, 1)
        return self._tokens_GKT.gather(2, whose)[..., 0]

    def add(self, after: Next) -> Tensor:
        """Write one more token on each row; the beam each goes on from, source_GK."""
        slots = range(len(self._written))
        slot_S = torch.arange(len(slots), device=self._device)
        return self._grow(slots, self._ways(after, len(slots), self.beams, slot_S))

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        slot_S = torch.tensor(slots, device=self._device)
        self._tokens_GKT = self._tokens_GKT[slot_S]
        self._logprob_GK = self._logprob_GK[slot_S]
        self._score_GK = self._score_GK[slot_S]
        self._written = [self._written[slot] for slot in slots]

    def _grow(self, slots: Sequence[int], ways: _Ways) -> Tensor:
        raise NotImplementedError

    def _ways(self, after: Next, slots: int, beams: int, slot_S: Tensor) -> _Ways:
        """The likeliest continuations of each row, enough of them for every later choice."""
        if self._constraints.idle:
            token_NM, true_NM = after.top(self._kept)
            rank_NM = true_NM
        else:
            next_NV = after.logits()
            true_NV = next_NV.log_softmax(dim=-1)
            said_NT = self._tokens_GKT[slot_S, :beams].flatten(0, 1)
            written = torch.tensor(self._written, device=self._device)[slot_S]
            written_N = written.repeat_interleave(beams)
            shaped_NV = self._constraints.shape(true_NV, said_NT, written_N)
            rank_NM, token_NM = shaped_NV.topk(min(self._kept, shaped_NV.shape[1]), dim=-1)
            true_NM = true_NV.gather(1, token_NM)
        if self.beams > token_NM.shape[1]:
            raise ModelError(
                f"{self.beams} beams are more than the model's {token_NM.shape[1]} tokens."
            )
        form = (slots, beams, -1)
        return _Ways(token_NM.view(form), rank_NM.view(form), true_NM.view(form))

    def _follow(self, slots: Sequence[int], source_SK: Tensor, ways: tuple[Tensor, Tensor]) -> None:
        """Let beam k of each slot go on from its beam `source` with a token."""
        token_SK, added_SK = ways
        slot_S = torch.tensor(slots, device=self._device)
        most = self.settings.max_tokens - 1
        place_S = torch.tensor([min(self._written[slot], most) for slot in slots])
        whose = source_SK[..., None].expand(-1, -1, self.settings.max_tokens)
        said_SKT = self._tokens_GKT[slot_S].gather(1, whose)
        place_SK1 = place_S.to(self._device)[:, None, None].expand(-1, self.beams, 1)
        self._tokens_GKT[slot_S] = said_SKT.scatter_(2, place_SK1, token_SK[..., None])
        logprob_SK = self._logprob_GK[slot_S].gather(1, source_SK)
        self._logprob_GK[slot_S] = logprob_SK + added_SK.double()
        for slot in slots:
            self._written[slot] += 1


class ClipcapBeams(_Beams):
    """The beams of `generate_beam` in rmokady/CLIP_prefix_caption's predict.py, best first.

    An ended beam goes on with token 0 at no cost and competes with the growing ones at every
    step; beams are ranked by the mean log-probability of their tokens, the stop token included.
    The search ends when all beams have ended or at `max_tokens`.
    """

    def open(self, slots: int) -> None:
        """Make room for captions in so many slots."""
        super().open(slots)
        self._length_GK = torch.zeros(slots, self.beams, device=self._device)
        self._ended_GK = torch.zeros(slots, self.beams, dtype=torch.bool, device=self._device)

    def begin(self, slots: Sequence[int], numbers: Sequence[int], first: Next) -> None:
        """Begin captions in these slots, `first` having a row for each."""
        slot_S = torch.tensor(slots, device=self._device)
        self._length_GK[slot_S] = 0.0
        self._ended_GK[slot_S] = False
        super().begin(slots, numbers, first)

    def done(self) -> list[bool]:
        """Of every slot whether its caption is done."""
        ended = self._ended_GK.all(dim=1).tolist()
        full = [written >= self.settings.max_tokens for written in self._written]
        return [a or b for a, b in zip(ended, full, strict=True)]

    def take(self, slots: Sequence[int]) -> list[list[Generated]]:
        """The captions of slots that are done, best first."""
        mean_GK = self._score_GK / self._length_GK
        order = mean_GK.argsort(dim=-1, descending=True, stable=True).tolist()
        return [
            [self._generated(slot, beam) for beam in order[slot][: self.settings.n]]
            for slot in slots
        ]

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        super().keep(slots)
        slot_S = torch.tensor(slots, device=self._device)
        self._length_GK, self._ended_GK = self._length_GK[slot_S], self._ended_GK[slot_S]

    def _grow(self, slots: Sequence[int], ways: _Ways) -> Tensor:
        slot_S = torch.tensor(slots, device=self._device)
        beams = ways.token_SKM.shape[1]
        ended_SK = self._ended_GK[slot_S, :beams]
        idle_SKM = ended_SK[..., None].expand_as(ways.token_SKM)
        first_M = torch.arange(ways.token_SKM.shape[2], device=self._device) == 0
        free_M = torch.where(first_M, 0.0, -torch.inf)
        token_SKM = ways.token_SKM.masked_fill(idle_SKM, 0)
        rank_SKM = torch.where(idle_SKM, free_M, ways.rank_SKM)
        length_SK = self._length_GK[slot_S, :beams] + ~ended_SK
        mean_SKM = (self._score_GK[slot_S, :beams, None] + rank_SKM) / length_SK[..., None]
        mean_SK, flat_SK = mean_SKM.flatten(1).topk(self.beams, dim=-1)
        source_SK, place_SK = flat_SK // mean_SKM.shape[2], flat_SK % mean_SKM.shape[2]
        true_SKM = ways.logprob_SKM.masked_fill(idle_SKM, 0.0)
        chosen = _Ways(token_SKM, rank_SKM, true_SKM).pick(source_SK, place_SK)
        length_SK = length_SK.gather(1, source_SK)
        ended_SK = ended_SK.gather(1, source_SK) | torch.isin(chosen[0], self._stops)
        self._length_GK[slot_S], self._ended_GK[slot_S] = length_SK, ended_SK
        self._score_GK[slot_S] = mean_SK * length_SK
        self._follow(slots, source_SK, chosen)
        return source_SK

    def _generated(self, slot: int, beam: int) -> Generated:
        """A beam up to its stop token."""
        said = self._tokens_GKT[slot, beam, : self._written[slot]].tolist()
        ends = [place for place, token in enumerate(said) if token in self.settings.stop_ids]
        end = ends[0] if ends else len(said)
        stop = said[end] if ends else None
        return Generated(tuple(said[:end]), float(self._logprob_GK[slot, beam]), stop)


@dataclass(frozen=True, slots=True)
class _Ended:
    rank: float
    generated: Generated


class DefaultBeams(_Beams):
    """The captions of transformers' `generate(num_beams=K)`, early_stopping off, best first.

    Of the K likeliest continuations those that end are ranked among the image's ended ones by
    log-probability / length ** length_penalty, and the K likeliest others grow on. An image is
    done when no growing beam, at its present length, would rank before its worst ended one. Where
    the model's numbers fail, what ended before is given up: better captions could be missing.
    """

    def __init__(self, settings: Beam, device: torch.device) -> None:
        super().__init__(settings, device)
        # enough even if every stop token is among them
        self._kept = self.beams * max(2, 1 + len(settings.stop_ids))

    def open(self, slots: int) -> None:
        """Make room for captions in so many slots."""
        super().open(slots)
        self._ended: list[list[_Ended]] = [[] for _ in range(slots)]
        self._done = [True] * slots

    def begin(self, slots: Sequence[int], numbers: Sequence[int], first: Next) -> None:
        """Begin captions in these slots, `first` having a row for each."""
        for slot in slots:
            self._ended[slot], self._done[slot] = [], False
        super().begin(slots, numbers, first)

    def done(self) -> list[bool]:
        """Of every slot whether its caption is done."""
        return self._done

    def take(self, slots: Sequence[int]) -> list[list[Generated]]:
        """The captions of slots that are done, best first."""
        rows = [self._ended[slot][: self.settings.n] for slot in slots]
        return [[one.generated for one in row] or [_LOST] for row in rows]

    def keep(self, slots: Sequence[int]) -> None:
        """Leave all slots but these, which are numbered anew in this order."""
        super().keep(slots)
        self._ended = [self._ended[slot] for slot in slots]
        self._done = [self._done[slot] for slot in slots]

    def _grow(self, slots: Sequence[int], ways: _Ways) -> Tensor:
        slot_S = torch.tensor(slots, device=self._device)
        beams, many = ways.token_SKM.shape[1:]
        total_SX = (self._score_GK[slot_S, :beams, None] + ways.rank_SKM).flatten(1)
        best_SM, flat_SM = total_SX.topk(min(self._kept, total_SX.shape[1]), dim=-1)
        source_SM, place_SM = flat_SM // many, flat_SM % many
        token_SM, true_SM = ways.pick(source_SM, place_SM)
        stop_SM = torch.isin(token_SM, self._stops)
        self._collect(slots, (best_SM, source_SM, token_SM, true_SM, stop_SM))
        growing_SM = best_SM.masked_fill(stop_SM, _NEVER)
        score_SK, at_SK = growing_SM.topk(self.beams, dim=-1)
        source_SK = source_SM.gather(1, at_SK)
        self._score_GK[slot_S] = score_SK
        chosen = token_SM.gather(1, at_SK), true_SM.gather(1, at_SK)
        self._follow(slots, source_SK, chosen)
        self._settle(slots, score_SK[:, 0].tolist())
        return source_SK

    def _collect(self, slots: Sequence[int], found: tuple[Tensor, ...]) -> None:
        """Rank the continuations that end among those of their slot; only the K best may stay."""
        columns = [tensor[:, : self.beams].tolist() for tensor in found]
        for slot, *row in zip(slots, *columns, strict=True):
            if self._done[slot]:
                continue
            length = self._written[slot] + 1
            last = length == self.settings.max_tokens
            for score, source, token, true, stop in zip(*row, strict=True):
                if (stop or last) and score > _NEVER / 2:
                    rank = score / length**self.settings.length_penalty
                    one = self._ending(slot, source, token, true)
                    self._ended[slot].append(_Ended(rank, one))
            self._ended[slot].sort(key=lambda one: -one.rank)
            del self._ended[slot][self.beams :]

    def _settle(self, slots: Sequence[int], best: list[float]) -> None:
        for slot, score in zip(slots, best, strict=True):
            if self._done[slot]:
                continue
            if isnan(score):
                self._ended[slot], self._done[slot] = [], True
                continue
            length, ended = self._written[slot], self._ended[slot]
            could = score / length**self.settings.length_penalty
            full = len(ended) >= self.beams and ended[-1].rank >= could
            self._done[slot] = full or length >= self.settings.max_tokens

    def _ending(self, slot: int, source: int, token: int, true: float) -> Generated:
        """Beam `source` of a slot followed by `token`, which ends it."""
        logprob = float(self._logprob_GK[slot, source]) + true
        said = self._tokens_GKT[slot, source, : self._written[slot]].tolist()
        stops = token in self.settings.stop_ids
        return Generated(
            tuple(said if stops else [*said, token]), logprob, token if stops else None
        )
