"""Files for other programs: SavedModels for TensorFlow Serving, and ONNX."""
