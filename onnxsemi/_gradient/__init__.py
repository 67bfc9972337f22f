"""The backward pass of a model as an ONNX graph: one reverse rule for each operator."""
