"""Plans of TensorRT built from ONNX models, in directories to serve them from; and what is in a model."""
