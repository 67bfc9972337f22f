"""ONNX file -> checked, folded classifier; its target layers; cutting it into prefix and suffix."""
