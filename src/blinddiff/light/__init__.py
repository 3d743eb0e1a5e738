"""The light engine: restores with exported graphs, by ONNX Runtime and NumPy, without torch."""
