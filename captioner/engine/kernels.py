"""Attention, choice of tokens and 8 bits on a CPU, compiled by Numba: ask `compiled` for them.

Torch has no operator for a query over a few columns, nor one that finds the likeliest tokens and
sums all chances while the logits are in cache. Every row is computed by itself, in float32, so
that nothing depends on its neighbours or on the number of threads. Numba knows no bfloat16: such
arrays come as their bits in uint16, which are the upper half of a float32's.

Shapes:  G slots   K beams   T columns   R prefixes   S positions   U slots that enter
         H heads   E width of a head   N rows   C tokens of a part   M likeliest tokens
         I in features   O out features
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, prange, set_num_threads, types
from numba.extending import intrinsic, overload

_BLOCK = 64
"""Tokens whose maximum is taken before they are looked at one by one."""
_SUMS: Any = {"reassoc", "contract"}
"""Sums may be taken in another order; infinities and NaN keep their meaning."""
_MAGIC = np.float32(1.5 * 2**23)
"""Added to a number, rounds it to a whole one, which its lowest bits then are."""
_MAGIC_BITS = 0x4B400000


def use_threads(count: int) -> None:
    """Run on so many threads, or as many as there are."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))


@intrinsic
def _float_of(_context: Any, _bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _bits_of(_context: Any, _number: Any) -> Any:
    """The 32 bits of a float32."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


def _load(number: Any) -> Any:
    """A stored number in float32."""


def _store(number: Any, like: Any) -> Any:
    """A float32 as it is stored beside `like`, rounded to the nearest, of two to the even."""


_LOADS = {
    "bits": lambda number: _float_of(np.uint32(number) << np.uint32(16)),
    "float": lambda number: number,
}
_STORES = {
    "bits": lambda number, like: _upper_half(number),
    "float": lambda number, like: number,
}
overload(_load, inline="always")(lambda number: _LOADS[_kind(number)])
overload(_store, inline="always")(lambda number, like: _STORES[_kind(like)])


def _kind(number: Any) -> str:
    return "bits" if isinstance(number, types.Integer) else "float"


@njit(cache=True)
def _upper_half(number: Any) -> Any:
    bits = _bits_of(number)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    half = np.uint32(0x7FFF) + odd if number == number else np.uint32(0)  # noqa: PLR0124 - NaN
    return np.uint16((bits + half) >> np.uint32(16))


@njit(cache=True)
def _order(number: Any) -> Any:
    """A whole number that is larger for a larger float32, and largest for NaN."""
    return _turned(np.int32(_bits_of(number)))


@njit(cache=True)
def _turned(bits: Any) -> Any:
    """Negative float32 are in reverse order by their bits; turned again they are themselves."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@njit(cache=True)
def _most(number_C: Any) -> Any:
    """The order of the largest: a compiler looks for it in many numbers at once."""
    most = _order(_load(number_C[0]))
    for at in range(len(number_C)):
        most = max(most, _order(_load(number_C[at])))
    return most


@njit(cache=True)
def _exp(number: Any) -> Any:
    """e to a number of at most 0: 2 ** whole * 2 ** rest, the latter by its Taylor polynomial.

    Its relative error is 5e-7 at -10 and 4e-6 at -87.
    """
    power = max(number * np.float32(1.4426950408889634), np.float32(-126.0))
    moved = power + _MAGIC
    rest = (power - (moved - _MAGIC)) * np.float32(0.6931471805599453)
    chance = np.float32(1 / 5040)
    chance = chance * rest + np.float32(1 / 720)
    chance = chance * rest + np.float32(1 / 120)
    chance = chance * rest + np.float32(1 / 24)
    chance = chance * rest + np.float32(1 / 6)
    chance = chance * rest + np.float32(0.5)
    chance = chance * rest + np.float32(1.0)
    chance = chance * rest + np.float32(1.0)
    whole = _float_of((_bits_of(moved) + np.uint32(127)) << np.uint32(23))
    return chance * whole if number == number else number  # noqa: PLR0124 - NaN stays


@njit(fastmath=_SUMS, cache=True)
def _soften(score_T: Any) -> None:
    """Softmax."""
    most, total = _float_of(np.uint32(_turned(_most(score_T)))), np.float32(0)
    for at in range(len(score_T)):
        score_T[at] = _exp(score_T[at] - most)
        total += score_T[at]
    share = np.float32(1) / total
    for at in range(len(score_T)):
        score_T[at] *= share


@njit(fastmath=_SUMS, cache=True)
def _score(keys_THE: Any, query_HE: Any, mark_T: Any, score_HT: Any) -> None:
    """The products of a query with the keys of columns whose mark is 0, -inf for the others."""
    columns, heads, width = keys_THE.shape
    for column in range(columns):
        if mark_T[column] != 0:
            score_HT[:, column] = -np.inf
            continue
        for head in range(heads):
            score = np.float32(0)
            for at in range(width):
                score += _load(keys_THE[column, head, at]) * query_HE[head, at]
            score_HT[head, column] = score


@njit(fastmath=_SUMS, cache=True)
def _gather(values_THE: Any, chance_HT: Any, mark_T: Any, sum_HE: Any) -> None:
    """The sum of the values of columns whose mark is 0, each times its chance."""
    columns, heads, width = values_THE.shape
    sum_HE[:] = 0
    for column in range(columns):
        if mark_T[column] != 0:
            continue
        for head in range(heads):
            chance = chance_HT[head, column]
            for at in range(width):
                sum_HE[head, at] += chance * _load(values_THE[column, head, at])


@njit(fastmath=_SUMS, cache=True)
def _attend(
    query_HE: Any, keys_THE: Any, values_THE: Any, mark_T: Any, score_HT: Any, sum_HE: Any
) -> None:
    """Sum up in `sum_HE` what a row finds in the columns whose mark is 0; `score_HT` is scratch."""
    columns, heads, width = keys_THE.shape
    scale = np.float32(1 / np.sqrt(width))
    for head in range(heads):
        for at in range(width):
            sum_HE[head, at] = _load(query_HE[head, at]) * scale
    _score(keys_THE, sum_HE, mark_T, score_HT)
    for head in range(heads):
        _soften(score_HT[head, :columns])
    _gather(values_THE, score_HT, mark_T, sum_HE)


@njit(inline="always")
def _keep(sum_HE: Any, out_HE: Any) -> None:
    for head in range(out_HE.shape[0]):
        for at in range(out_HE.shape[1]):
            out_HE[head, at] = _store(sum_HE[head, at], out_HE[head, at])


@njit(parallel=True, nogil=True, cache=True)
def step(
    qkv_GK3HE: Any,
    keys_GTHE: Any,
    values_GTHE: Any,
    place_GK: Any,
    mark_GKT: Any,
    used_G: Any,
    out_GKHE: Any,
) -> None:
    """Write each beam's key and value into its column; what it finds in those that it reads.

    It reads the first `used_G` columns whose mark is 0; slots that use none are left out.
    """
    for slot in prange(len(used_G)):
        columns = used_G[slot]
        if columns == 0:
            out_GKHE[slot] = 0
            continue
        heads, width = out_GKHE.shape[2], out_GKHE.shape[3]
        score_HT = np.empty((heads, columns), np.float32)
        sum_HE = np.empty((heads, width), np.float32)
        for beam in range(place_GK.shape[1]):
            place = place_GK[slot, beam]
            for head in range(heads):
                for at in range(width):
                    keys_GTHE[slot, place, head, at] = qkv_GK3HE[slot, beam, 1, head, at]
                    values_GTHE[slot, place, head, at] = qkv_GK3HE[slot, beam, 2, head, at]
        for beam in range(place_GK.shape[1]):
            _attend(
                qkv_GK3HE[slot, beam, 0],
                keys_GTHE[slot, :columns],
                values_GTHE[slot, :columns],
                mark_GKT[slot, beam],
                score_HT,
                sum_HE,
            )
            _keep(sum_HE, out_GKHE[slot, beam])


@njit(parallel=True, nogil=True, cache=True)
def read(qkv_RS3HE: Any, out_RSHE: Any) -> None:
    """What each position of an opening finds in itself and those before it."""
    for row in prange(len(qkv_RS3HE)):
        positions, heads, width = out_RSHE.shape[1:]
        score_HT = np.empty((heads, positions), np.float32)
        sum_HE = np.empty((heads, width), np.float32)
        mark_T = np.zeros(positions, np.uint8)
        for position in range(positions):
            _attend(
                qkv_RS3HE[row, position, 0],
                qkv_RS3HE[row, : position + 1, 1],
                qkv_RS3HE[row, : position + 1, 2],
                mark_T,
                score_HT,
                sum_HE,
            )
            _keep(sum_HE, out_RSHE[row, position])


@njit(parallel=True, nogil=True, cache=True)
def fill(qkv_RS3HE: Any, row_U: Any, slot_U: Any, keys_GTHE: Any, values_GTHE: Any) -> None:
    """Put the keys and values of openings into the first columns of slots that enter."""
    positions = qkv_RS3HE.shape[1]
    for number in prange(len(slot_U)):
        row, slot = row_U[number], slot_U[number]
        for position in range(positions):
            keys_GTHE[slot, position] = qkv_RS3HE[row, position, 1]
            values_GTHE[slot, position] = qkv_RS3HE[row, position, 2]


@njit(fastmath=_SUMS, cache=True)
def _sum_of_exp(logit_C: Any, most: Any) -> Any:
    total = np.float32(0)
    for at in range(len(logit_C)):
        total += _exp(_load(logit_C[at]) - most)
    return total


@njit(cache=True)
def _insert(token: int, logit: Any, token_M: Any, logit_M: Any) -> None:
    """Put a token behind those that are as likely; the last one falls out."""
    at = len(token_M) - 1
    while at > 0 and _order(_load(logit_M[at - 1])) < _order(_load(logit)):
        token_M[at], logit_M[at] = token_M[at - 1], logit_M[at - 1]
        at -= 1
    token_M[at], logit_M[at] = token, logit


@njit(parallel=True, nogil=True, cache=True)
def likeliest(
    logit_NC: Any, first: int, token_NM: Any, logit_NM: Any, most_N: Any, sum_N: Any
) -> None:
    """Take one more part of the vocabulary, whose first token is `first`, into account.

    `token_NM` and `logit_NM` keep the likeliest tokens so far, of equally likely ones the lowest
    first; `sum_N` the sum of all exponentials of logits less `most_N`. They begin with -inf and 0.
    """
    count = logit_NC.shape[1]
    for row in prange(len(logit_NC)):
        logit_C, token_M, logit_M = logit_NC[row], token_NM[row], logit_NM[row]
        for start in range(0, count, _BLOCK):
            end = min(start + _BLOCK, count)
            if _most(logit_C[start:end]) > _order(_load(logit_M[-1])):
                for at in range(start, end):
                    if _order(_load(logit_C[at])) > _order(_load(logit_M[-1])):
                        _insert(first + at, logit_C[at], token_M, logit_M)
        most = _load(logit_M[0])
        sum_N[row] = sum_N[row] * _exp(most_N[row] - most) + _sum_of_exp(logit_C, most)
        most_N[row] = most


@njit(parallel=True, nogil=True, cache=True)
def quantise(x_NI: Any, whole_NI: Any, scale_N: Any) -> None:
    """Whole numbers from 1 to 255 around 128, and what a step of each row is worth."""
    for row in prange(len(x_NI)):
        x_I, whole_I = x_NI[row], whole_NI[row]
        most = np.int32(0)
        for at in range(len(x_I)):
            most = max(most, np.int32(_bits_of(_load(x_I[at])) & np.uint32(0x7FFFFFFF)))
        scale = max(_float_of(np.uint32(most)) / np.float32(127), np.float32(1e-12))
        scale_N[row] = scale
        for at in range(len(x_I)):
            moved = _load(x_I[at]) / scale + _MAGIC
            whole = np.int32(_bits_of(moved)) - np.int32(_MAGIC_BITS - 128)
            whole_I[at] = np.uint8(max(np.int32(1), min(np.int32(255), whole)))


@njit(error_model="numpy", cache=True)
def _gelu(x: Any) -> Any:
    """By tanh, as GPT-2 has it: x times the logistic function of twice tanh's argument."""
    twice = np.float32(2 * 0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
    away = _exp(-abs(twice))
    return x * (np.float32(1) if twice > 0 else away) / (np.float32(1) + away)


@njit(parallel=True, nogil=True, cache=True)
def finish(y_NO: Any, scale_N: Any, bias_O: Any, gelu: bool) -> None:
    """Make what a product in 8 bits gave, unscaled, what the layer gives."""
    for row in prange(len(y_NO)):
        y_O, scale = y_NO[row], scale_N[row]
        if gelu:
            for at in range(len(y_O)):
                y_O[at] = _store(_gelu(_load(y_O[at]) * scale + bias_O[at]), y_O[at])
        else:
            for at in range(len(y_O)):
                y_O[at] = _store(_load(y_O[at]) * scale + bias_O[at], y_O[at])
