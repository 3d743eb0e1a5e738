"""Nodes of blinddiff for ComfyUI; its node *Load Upscale Model* can load the weights too."""

import contextlib

from .nodes import comfy_entrypoint

with contextlib.suppress(ImportError):  # a ComfyUI without spandrel
    from blinddiff.integrations.spandrel import install

    install()

__all__ = ["comfy_entrypoint"]
