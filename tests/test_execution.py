"""How a step is run: rows in parts."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_model

from tfp_hybrid.execution import graph_function, parts_for_cores, traced_plainly


def parts(rows, columns=3, **options):
    """The parts of a matrix inside a compiled function, as arrays."""
    values = tf.reshape(tf.range(rows * columns), [rows, columns])
    function = tf.function(lambda x: tuple(parts_for_cores(x)), **options)
    return values, [part.numpy() for part in function(values)]


def test_many_functions_of_the_same_code_are_no_warning(caplog):
    """As those of the models of a cross-validation; TensorFlow counts them together."""

    def double(x):
        return 2 * x

    for number in range(12):
        assert graph_function(double)(tf.constant([number])).numpy() == [2 * number]
    assert "retracing" not in caplog.text
    for _ in range(12):
        tf.function(lambda x: 2 * x, autograph=False)(tf.constant([1]))
    assert "retracing" in caplog.text, "TensorFlow warns no more: `omit_tracing_warning` is not needed"


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(1, [1]), (1023, [1023]), (1024, [512, 512]), (1601, [533, 533, 535]), (100_003, [12_500] * 7 + [12_503])],
)
def test_parts_are_the_rows_in_their_order(rows, sizes, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    values, found = parts(rows)
    assert [len(part) for part in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), values)


@pytest.mark.parametrize(
    ("cores", "rows", "sizes"),
    [
        (1, 10, [10, 0]),
        (1, 1100, [550, 550]),
        (2, 1100, [512, 512, 76, 0]),
        (2, 0, 4 * [0]),
        (64, 8001, 7 * [1001] + [994]),
    ],
)
def test_two_parts_a_core_for_an_unknown_number_of_rows(cores, rows, sizes, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    values, found = parts(rows, input_signature=[tf.TensorSpec([None, 3], tf.int32)])
    assert [len(part) for part in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), values)


def test_whole_in_eager_execution_under_xla_and_for_other_ranks():
    rows = tf.zeros((4096, 2))
    assert parts_for_cores(rows)[0] is rows
    assert len(parts(4096, jit_compile=True)[1]) == 1
    assert len(tf.function(lambda: parts_for_cores(tf.zeros((4096, 2, 2))))()) == 1


def test_whole_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["a GPU"])
    assert len(parts(4096)[1]) == 1


def test_traced_plainly_there_are_no_functions_inside():
    """What ONNX and LiteRT cannot take."""

    def operations():
        traced = tf.function(lambda x: model.encode_checked(x).log_prob, autograph=False)
        graph = traced.get_concrete_function(tf.TensorSpec((None, 2), tf.float32)).graph.as_graph_def()
        return {node.op for node in graph.node}

    model = tiny_model(couplings=1)
    with traced_plainly():
        plain = operations()
    assert not {"PartitionedCall", "StatefulPartitionedCall", "SplitV"} & plain and "MatMul" in plain
    assert {"PartitionedCall", "StatefulPartitionedCall"} & operations(), "as ever afterwards"
