"""A convolution between few and many channels that is fast on CPUs."""

import keras
import tensorflow as tf
from keras import layers

from tfp_hybrid import _compat
from tfp_hybrid.execution import is_for_accelerator

# With at most this many output channels, a CPU's vector unit (16 single-precision lanes) is mostly idle.
FEW_CHANNELS = 4


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class CouplingConv2D(layers.Conv2D):
    """A `keras.layers.Conv2D` that computes the same function with the same weights, but faster on a CPU.

    The network of a coupling maps few channels to many and back. For such convolutions, the kernels of TensorFlow take
    several times as long as the multiplications alone. Without a GPU, and for odd kernel sizes, stride 1 and "same"
    padding, this layer expresses the convolution and its gradients by the kernels that are fast.

    It takes the arguments of `keras.layers.Conv2D`.
    """

    def call(self, inputs):
        if (
            self.strides != (1, 1)
            or self.dilation_rate != (1, 1)
            or self.padding != "same"
            or self.groups != 1
            or self.data_format != "channels_last"
            or not self.use_bias
            or any(size % 2 == 0 for size in self.kernel_size)
            or is_for_accelerator()
        ):
            return super().call(inputs)
        relu = self.activation is keras.activations.relu
        kernel, bias = (tf.convert_to_tensor(weight, inputs.dtype) for weight in (self.kernel, self.bias))
        outputs = _convolution_and_bias(inputs, kernel, bias, relu)
        return outputs if relu or self.activation is None else self.activation(outputs)


def _convolution_and_bias(x, kernel, bias, relu):
    """Computes `tf.nn.conv2d(x, kernel, 1, "SAME") + bias` for kernels of odd size, followed by an optional ReLU.

    Args:
      x: `(n, H, W, c)`.
      kernel: `(h, w, c, d)`, with odd h and w.
      bias: `(d,)`.
      relu: Whether to apply a ReLU.

    Returns:
      `(n, H, W, d)`.
    """

    @_compat.custom_gradient
    def function(x, kernel, bias):
        y = _convolution(x, kernel, bias, relu)

        def gradient(dy):
            if relu:
                dy = tf.raw_ops.ReluGrad(gradients=dy, features=y)
            rows = tf.reshape(dy, [-1, dy.shape[-1]])
            dbias = tf.matmul(tf.ones((1, tf.shape(rows)[0]), dy.dtype), rows)[0]
            if kernel.shape[2] <= FEW_CHANNELS:
                # y[p] = sum_k x[p + k] K[k], so dx is the convolution of dy with K mirrored and its channels swapped.
                dx = _convolution(dy, _mirrored(kernel))
            else:
                dx = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
                )
            if kernel.shape[2] <= kernel.shape[3]:
                return dx, _kernel_gradient(x, dy, kernel.shape), dbias
            swapped = tf.TensorShape([*kernel.shape[:2], kernel.shape[3], kernel.shape[2]])
            return dx, _mirrored(_kernel_gradient(dy, x, swapped)), dbias

        return y, gradient

    return function(x, kernel, bias)


def _mirrored(kernel):
    return tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])


def _kernel_gradient(x, dy, shape):
    """Returns sum_p x[p + k] dy[p]; this is fast if x has no more channels than dy."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=shape, out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
    )


def _convolution(x, kernel, bias=None, relu=False):
    height, width, _, channels = kernel.shape
    sides, blocks = x.shape[1:3], 1
    if channels <= FEW_CHANNELS and height * width > 1 and sides.is_fully_defined():
        blocks = 2 if sides[0] % 2 == sides[1] % 2 == 0 else 1
    if blocks == 2:  # stride 2 computes each block of 2 x 2 outputs as one pixel with four times the channels
        shifted = [tf.pad(kernel, [[i, 1 - i], [j, 1 - j], [0, 0], [0, 0]]) for i in (0, 1) for j in (0, 1)]
        kernel = tf.concat(shifted, -1)
        bias = None if bias is None else tf.tile(bias, [4])
    padding = [[0, 0], [height // 2, height // 2], [width // 2, width // 2], [0, 0]]
    y = tf.nn.conv2d(x, kernel, blocks, padding)
    y = y if bias is None else tf.nn.bias_add(y, bias)
    y = tf.nn.relu(y) if relu else y
    return tf.nn.depth_to_space(y, 2) if blocks == 2 else y
