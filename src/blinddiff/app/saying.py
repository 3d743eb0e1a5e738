"""What a visitor is told when something cannot be done."""

import gradio as gr

from blinddiff.errors import BlindDiffError

UNEXPECTED = "Something went wrong in the program, not by your doing; the server's log says what."


def sentence(error: BlindDiffError) -> str:
    """An error's text as one plain sentence."""
    words = " ".join(str(error).split())
    if "." not in words.split(" ")[0]:  # as a file's name has
        words = words[:1].upper() + words[1:]
    return words + ("" if words.endswith((".", "?", "!")) else ".")


def shown_error(words: str) -> gr.Error:
    """An error that the page and the HTTP interface show."""
    return gr.Error(words, print_exception=False, title="Not done")
