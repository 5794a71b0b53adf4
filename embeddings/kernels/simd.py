"""Sixteen floats at once in numba kernels.

LLVM's own vectorisation of such loops reaches half of the possible speed. A `Lanes` value is LLVM's
<16 x float>: one register on a processor with AVX-512, two or four on others. Arrays that are read
or written this way are C-contiguous float32 and a multiple of LANES wide. They should begin on a
cache line (`empty_aligned`): a load that straddles two lines costs double.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
LINE_BYTES = 64  # a cache line, and sixteen floats
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INT32 = ir.IntType(32)


@njit(nogil=True, cache=True)
def empty_aligned(n, k):
    """An uninitialised (n, k) float32 array that begins on a cache line."""
    room = np.empty(n * k + LANES, np.float32)
    start = -room.ctypes.data % LINE_BYTES // 4  # floats to the next cache line
    return room[start : start + n * k].reshape((n, k))


class LanesType(types.Type):
    """numba's type of a value of sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):
    """Stored as one LLVM vector."""

    def __init__(self, manager, lanes_type):
        super().__init__(manager, lanes_type, VECTOR)


lanes = LanesType()


def address(context, builder, signature, args):
    """The address of array[at]. at: a tuple, the indices of the first lane."""
    array_type, index_types = signature.args[:2]
    array = context.make_array(array_type)(context, builder, args[0])
    indices = cgutils.unpack_tuple(builder, args[1])
    position = []
    for index, index_type in zip(indices, index_types, strict=True):
        position.append(context.cast(builder, index, index_type, types.intp))
    return cgutils.get_item_pointer(context, builder, array_type, array, position, wraparound=False)


def instruction(emit: Callable) -> Any:
    """numba's `intrinsic`, typed as callable: numba itself adds the first argument of a call."""
    return intrinsic(emit)


@instruction
def load(_typing, array, at):
    """The 16 floats of the array that begin at `at`, a tuple of indices."""

    def code(context, builder, signature, args):
        loaded = builder.load(
            builder.bitcast(address(context, builder, signature, args), VECTOR.as_pointer())
        )
        loaded.align = 4  # LLVM would assume 64, which only rows on a cache line have
        return loaded

    return lanes(array, at), code


@instruction
def store(_typing, array, at, x):
    """Write x to the array, beginning at `at`."""

    def code(context, builder, signature, args):
        where = builder.bitcast(address(context, builder, signature, args), VECTOR.as_pointer())
        builder.store(args[2], where).align = 4
        return context.get_dummy_value()

    return types.void(array, at, x), code


@instruction
def splat(_typing, x):
    """x in every lane."""

    def code(_context, builder, _signature, args):
        nothing = ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, args[0], ir.Constant(INT32, 0))
        return builder.shuffle_vector(
            first, nothing, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES)
        )

    return lanes(types.float32), code


@instruction
def fma(_typing, a, b, c):
    """a b + c in every lane."""

    def code(_context, builder, _signature, args):
        a, b, c = args
        # "fast" lets LLVM fuse the two into one instruction.
        return builder.fadd(builder.fmul(a, b, flags=("fast",)), c, flags=("fast",))

    return lanes(a, b, c), code


@instruction
def total(_typing, a):
    """The sum of the lanes, added by halves."""

    def code(_context, builder, _signature, args):
        rest = args[0]
        width = LANES
        while width > 1:
            width //= 2
            kind = ir.VectorType(INT32, width)
            low = ir.Constant(kind, list(range(width)))
            high = ir.Constant(kind, list(range(width, 2 * width)))
            first = builder.shuffle_vector(rest, rest, low)
            second = builder.shuffle_vector(rest, rest, high)
            rest = builder.fadd(first, second, flags=("fast",))
        return builder.extract_element(rest, ir.Constant(INT32, 0))

    return types.float32(a), code


@instruction
def prefetch(_typing, array, at):
    """Start fetching the cache line of array[at]."""

    def code(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        where = builder.bitcast(address(context, builder, signature, args), byte)
        reading, all_levels, data = (ir.Constant(INT32, flag) for flag in (0, 3, 1))
        builder.call(fetch, [where, reading, all_levels, data])
        return context.get_dummy_value()

    return types.void(array, at), code
