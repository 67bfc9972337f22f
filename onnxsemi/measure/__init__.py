"""What quantizing does to loss, softmax and accuracy, measured through ONNX Runtime."""
