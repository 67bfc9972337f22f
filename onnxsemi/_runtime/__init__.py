"""ONNX Runtime, its processor and memory, and the only loop over batches."""
