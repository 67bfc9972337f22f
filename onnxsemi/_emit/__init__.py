"""Plan -> ONNX graph whose weights are stored in the plan's bits."""
