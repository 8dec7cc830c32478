"""Kernels: functions on numpy arrays that numba compiles, and the elementary functions they use.

The elementary functions are written as arithmetic without calls, so that LLVM can compute 8 or 16 at
once; calls into the C library would be computed one by one, at ten times the cost. Their relative
error is below 3e-7 (float32), held by ``tests/agents/test_fused.py``.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature
from numba.core.typed_passes import NoPythonSupportedFeatureValidation
from numba.extending import intrinsic
from numba.np import arrayobj

from lram.agents.backbones.kernels.files import compiled_by_one, private_folder, read_kernel, write_kernel

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be split over a vector's lanes and products fused with sums, as every fast matrix product
# does. NaN and infinity keep their meaning, so that a broken state is seen.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: Function) -> Function:
    """Compile ``function`` at its first call; the machine code is kept on disk where that is possible."""
    return _kept(function, pipeline_class=_KernelCompiler)


def inner_kernel(function: Function) -> Function:
    """The same for what kernels alone call.

    Python must not call it, which would end the process: the wrapper that lets it is not compiled.
    """
    return _kept(function, no_cpython_wrapper=True)


@register_pass(mutates_CFG=False, analysis_only=False)
class _CallsItsOwn(LoweringPass):  # type: ignore[misc]
    """Keep a kernel's copies of what it calls to itself.

    numba leaves them open, so that a process has one of each: the first that it came by. That is another one
    where the kernel was compiled just now (the function as compiled alone) than where it was read from disk
    (the kernel's own, optimised once more), and the two may round differently.
    """

    _name = "lram_calls_its_own"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library.enable_object_caching()  # or it could not be kept
        optimize = library._optimize_final_module

        def closed() -> None:
            for linked in library._final_module.functions:
                if not linked.is_declaration and linked.linkage == binding.Linkage.linkonce_odr:
                    linked.linkage = binding.Linkage.internal
            optimize()

        library._optimize_final_module = closed
        state.library = library
        return False


class _KernelCompiler(CompilerBase):  # type: ignore[misc]
    """numba's own, with :class:`_CallsItsOwn`."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_CallsItsOwn, NoPythonSupportedFeatureValidation)
        passes.finalize()
        return [passes]


def _kept(function: Function, **options: Any) -> Function:
    compiled: Any = numba.njit(
        fastmath=_FASTMATH, error_model="numpy", nogil=True, no_cfunc_wrapper=True, **options
    )(function)
    folder = _cache_folder()
    if folder is not None:
        compiled._cache = _KernelCache(function, folder)
        compiled.compile = _by_one_process(compiled)
    result: Function = compiled
    return result


def _by_one_process(compiled: Any) -> Callable[[Any], Any]:
    """Return a dispatcher's ``compile`` that reads what another process is compiling when that has ended."""
    here = compiled.compile

    def compile(sig: Any) -> Any:
        # Before the file's lock: of two threads that compile, none waits for what the other one holds.
        with global_compiler_lock:
            if tuple(normalize_signature(sig)[0]) in compiled.overloads:
                return here(sig)
            file = compiled._cache.file(sig, compiled.targetctx.codegen())
            with nullcontext() if file.exists() else compiled_by_one(file):
                return here(sig)

    return compile


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of one kernel, but in files of our own, of which nothing unsound reaches LLVM.

    A file is named by everything that its code depends on, so there is no index that processes which
    compile at the same time could confuse. Whatever goes wrong costs a compilation instead of the run.
    """

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        # Not the base's own: it would choose a folder, perhaps a shared one.
        self._name, self._py_func = repr(function), function
        self._impl = object.__new__(CompileResultCacheImpl)  # its methods that are used here need no state
        self._cache_path = str(folder)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return kept code; None where there is none or it cannot be read."""
        try:
            target_context.refresh()
            content = read_kernel(self.file(sig, target_context.codegen()))
            return content and self._impl.rebuild(target_context, pickle.loads(content))
        except Exception:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep code if that can be done."""
        with suppress(Exception):
            if self._impl.check_cachable(data):
                write_kernel(self.file(sig, data.codegen), dumps(self._impl.reduce(data)))

    def flush(self) -> None:
        """Forget nothing: files are named by their content's source."""

    def file(self, sig: Any, codegen: Any) -> Path:
        """Return where the code for arguments of these types is kept."""
        function = self._py_func
        depends = (
            numba.__version__,
            sys.version_info[:2],
            _code_behind(function),
            function.__qualname__,
            function.__code__.co_firstlineno,
            self._index_key(sig, codegen),
        )
        digest = hashlib.sha256(repr(depends).encode()).hexdigest()[:32]
        return Path(self._cache_path) / f"{function.__name__}.{digest}.nbc"


@cache
def _code_behind(function: Callable[..., Any]) -> str:
    """Return a digest of the files of ``function`` and of all kernels that it calls, and of their constants.

    What a kernel calls is compiled into it, from whichever module it comes.
    """
    seen, waiting, constants = {function}, [function], set()
    while waiting:
        one = waiting.pop()
        names = one.__code__.co_names
        cells = zip(one.__code__.co_freevars, one.__closure__ or (), strict=True)
        known = {**one.__globals__, **{name: cell.cell_contents for name, cell in cells}}
        values = {name: known[name] for name in (*names, *one.__code__.co_freevars) if name in known}
        for name, value in values.items():
            if isinstance(value, ModuleType):
                waiting += _new_kernels((vars(value).get(part) for part in names), seen)
            elif isinstance(value, int | float | str | np.generic):
                constants.add((one.__qualname__, name, repr(value)))
        waiting += _new_kernels(values.values(), seen)
    files = {_source_digest(inspect.getfile(one)) for one in seen}
    return hashlib.sha256(repr((sorted(files), sorted(constants))).encode()).hexdigest()


def _new_kernels(values: Iterable[Any], seen: set[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """Return the functions of those ``values`` that are kernels not in ``seen``; add them to it."""
    functions = [value.py_func for value in values if isinstance(value, Dispatcher)]
    found = list(dict.fromkeys(one for one in functions if one not in seen))
    seen.update(found)
    return found


@cache
def _source_digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@cache
def _cache_folder() -> Path | None:
    """A folder for these very sources; None where there can be none, or where others could write it."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    try:
        base = numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return private_folder(Path(base) / "lram" / f"kernels-{digest.hexdigest()[:16]}")
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return None


def elementary(function: Function) -> Function:
    """Compile ``function`` for use in kernels. Sums keep their order, whatever the kernel allows.

    Python cannot call it: what would let it takes as long to compile as the function.
    """
    compiled: Function = numba.njit(
        fastmath={"contract", "nsz"}, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)
    return compiled


@elementary
def put(source: Any, target: Any) -> None:
    """Copy a vector into another of its length.

    What kernels say in place of ``target[:] = source``, with which numba would compile a message on unequal
    shapes for seconds, and copy by way of memory of its own where it cannot see that the two lie apart.
    """
    for i in range(len(target)):
        target[i] = source[i]


@intrinsic  # type: ignore[untyped-decorator]
def float_of_bits(context: Any, bits: Any) -> Any:
    """Read the bits of an int32 as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.int32), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(context: Any, array: Any, i: Any, j: Any) -> Any:
    """Ask the processor for the memory of array[i, j], which may lie outside of the array (a 2-d one)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        struct = arrayobj.make_array(kind)(context, builder, arguments[0])
        item = cgutils.get_item_pointer(context, builder, kind, struct, arguments[1:], wraparound=False)
        integer, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        form = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
        function = cgutils.get_or_insert_function(builder.module, form, "llvm.prefetch.p0")
        reading, keep, data = integer(0), integer(3), integer(1)
        builder.call(function, [builder.bitcast(item, pointer), reading, keep, data])
        return context.get_dummy_value()

    return numba.types.void(array, i, j), generate


_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that its product with a small integer is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_LOWEST, _HIGHEST = np.float32(-87.3), np.float32(88.3)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / c) for c in (2, 6, 24, 120, 720, 5040))
_A3, _A5, _A7, _A9, _A11, _A13, _A15 = (np.float32(1 / a) for a in (3, 5, 7, 9, 11, 13, 15))
_SMALL = np.float32(0.34)
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


@elementary
def _series(x: Any) -> Any:
    """(e^x - 1 - x) / x^2 for |x| up to ln(2) / 2: six terms of the series."""
    series = _C5 + x * (_C6 + x * _C7)
    return _C2 + x * (_C3 + x * (_C4 + x * series))


@elementary
def exp(x: Any) -> Any:
    """e^x of a float32; below -87.3 and above 88.3 as at these limits (NaN stays NaN)."""
    x = _LOWEST if x < _LOWEST else (_HIGHEST if x > _HIGHEST else x)
    whole = np.floor(x * _LOG2_E + _HALF)
    rest = x - whole * _LN2_HIGH - whole * _LN2_LOW  # within +-ln(2) / 2
    series = _ONE + rest * (_ONE + rest * _series(rest))
    return series * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@elementary
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return _ONE / (_ONE + exp(-x))


@elementary
def silu(x: Any) -> Any:
    """x / (1 + e^-x)."""
    return x / (_ONE + exp(-x))


@elementary
def expm1(x: Any) -> Any:
    """e^x - 1; near 0 by the series itself, because the difference would lose its digits."""
    return x * (_ONE + x * _series(x)) if abs(x) < _SMALL else exp(x) - _ONE


@elementary
def tanh(x: Any) -> Any:
    """(1 - e^-2|x|) / (1 + e^-2|x|), with the sign of x."""
    less = expm1(-_TWO * abs(x))
    y = -less / (_TWO + less)
    return y if x > _ZERO else -y


@elementary
def softplus(x: Any) -> Any:
    """log(1 + e^x)."""
    # log(1 + u) = 2 artanh(u / (2 + u)) with u = e^-|x| <= 1, so that the series' argument is <= 1/3.
    u = exp(-abs(x))
    s = u / (_TWO + u)
    s2 = s * s
    series = _A9 + s2 * (_A11 + s2 * (_A13 + s2 * _A15))
    series = _ONE + s2 * (_A3 + s2 * (_A5 + s2 * (_A7 + s2 * series)))
    return (x if x > _ZERO else _ZERO) + _TWO * s * series
