"""The requests with which TensorFlow Serving warms up a model that it has loaded.

They are a TFRecord file of `tensorflow.serving.PredictionLog` messages. The package of these messages,
`tensorflow-serving-api`, is not needed: the few fields that are used are declared here with the numbers and types that
they have there.
"""

import pathlib

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PATH = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")

_FIELDS = {  # message: field: number and type
    "ModelSpec": {"signature_name": (3, "string")},
    "Input": {"key": (1, "string"), "value": (2, "bytes")},  # an entry of a map; a TensorProto, already in bytes
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "[Input]")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


def write(folder: pathlib.Path, endpoints: dict):
    """Writes one request for each endpoint, its example.

    Args:
      folder: The folder of the SavedModel.
      endpoints: `Endpoint`s by the names of their signatures.
    """
    log_class, path = _prediction_log(), folder / PATH
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, endpoint in endpoints.items():
            log = log_class()
            request = log.predict_log.request
            request.model_spec.signature_name = name
            for spec, value in zip(*map(tf.nest.flatten, (endpoint.inputs, endpoint.example)), strict=True):
                tensor = tf.make_tensor_proto(value.numpy(), value.dtype, value.shape)
                request.inputs.add(key=spec.name, value=tensor.SerializeToString())
            writer.write(log.SerializeToString())


def _prediction_log():
    """Returns the class of the message; in a pool of its own, where it cannot meet that of `tensorflow-serving-api`."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="warmup.proto", package="tfp_hybrid", syntax="proto3")
    for message, fields in _FIELDS.items():
        declared = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            label = field.LABEL_REPEATED if kind.startswith("[") else field.LABEL_OPTIONAL
            added = declared.field.add(name=name, number=number, label=label)
            if kind in ("string", "bytes"):
                added.type = field.TYPE_STRING if kind == "string" else field.TYPE_BYTES
            else:
                added.type, added.type_name = field.TYPE_MESSAGE, f".tfp_hybrid.{kind.strip('[]')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tfp_hybrid.PredictionLog"))
