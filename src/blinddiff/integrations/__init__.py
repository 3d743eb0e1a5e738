"""Adapters for other programs' interfaces; each module needs its program's package, an extra of the same name."""
