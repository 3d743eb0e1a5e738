"""Export of the method as ONNX graphs, for use without torch."""
