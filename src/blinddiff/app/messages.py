"""Errors in one sentence, for the page and for programs."""

import logging

from blinddiff.errors import BlindDiffError


def error_text(error: Exception) -> str:
    """An error as one sentence; the details of an unexpected error go to the log only."""
    if not isinstance(error, BlindDiffError):
        logging.getLogger("blinddiff.app").error("a request failed", exc_info=error)
        return "Internal error: your request was not the cause. The server's log has the details."
    text = " ".join(str(error).split())
    if "." not in text.split(" ")[0]:  # file names keep their case
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."
