"""Timings and a training on a GPU machine without TensorFlow: `python -m benchmarks gpu prepare|run|finish`."""
