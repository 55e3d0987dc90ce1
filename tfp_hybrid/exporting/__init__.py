"""Files for other programs: SavedModels for TensorFlow Serving, ONNX and LiteRT."""
