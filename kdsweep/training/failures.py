"""Whom an error in a training step concerns. Without torch, so that drivers may ask too."""

from __future__ import annotations

import re
import traceback

from kdsweep.errors import StepError

_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|can't allocate memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED", re.IGNORECASE
)
_DEVICE_FAILED = re.compile(r"CUDA error|CU(BLAS|DNN)_STATUS_", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on a device or on the host."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"OutOfMemoryError", "MemoryError"} or _OUT_OF_MEMORY.search(str(error)))


def concerns_all(error: BaseException) -> bool:
    """Return whether an error in one student's turn ends its siblings too.

    Memory is one for all, and after an error of the device nothing works there any more.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    is_of_device = "AcceleratorError" in names or bool(_DEVICE_FAILED.search(str(error)))
    return is_of_device or is_out_of_memory(error)


def step_error(error: Exception) -> StepError:
    """An error in a student's turn, without the frames that hold on to its tensors."""
    message = f"{type(error).__name__}: {error}" if str(error).strip() else type(error).__name__
    return StepError(message, "".join(traceback.format_exception(error)))
