"""What may go wrong with a method without being a bug."""

from concurrent.futures.process import BrokenProcessPool

from blinddiff.errors import BlindDiffError
from blinddiff.sampling.memory import is_lack_of_memory

NO_MEMORY = "memory has run out"


def excuse(error: Exception) -> str | None:
    """One line for bad input, for want of memory, and for a process that was ended for it; None for a bug."""
    if isinstance(error, BlindDiffError):
        return str(error)
    return NO_MEMORY if isinstance(error, BrokenProcessPool) or is_lack_of_memory(error) else None
