"""A small server of one SavedModel, by the protocols of TensorFlow Serving; it knows TensorFlow, and not this package.

`python server.py FOLDER` prints its ports, of REST and of gRPC (0 without `tensorflow-serving-api`), as a line of JSON.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import os
import sys

sys.modules |= dict.fromkeys(("tfp_hybrid", "tensorflow_probability"))  # an import of them fails
import tensorflow as tf  # noqa: E402

REFUSED = (ValueError, TypeError, KeyError, tf.errors.OpError, OverflowError)


class Served:
    """The signatures of a SavedModel."""

    def __init__(self, folder):
        self.signatures = tf.saved_model.load(folder).signatures  # keeps the model alive

    def answer(self, name, inputs):
        """Returns the outputs of one request; raises one of `REFUSED`."""
        signature = self.signatures[name or "serving_default"]
        specs = signature.structured_input_signature[1]
        if specs.keys() != inputs.keys():
            raise ValueError(f"inputs are {sorted(inputs)}; wanted {sorted(specs)}")
        for key, spec in specs.items():
            inputs[key] = tf.constant(inputs[key], spec.dtype)
            if not spec.shape.is_compatible_with(inputs[key].shape):
                raise ValueError(f"{key} has shape {inputs[key].shape}; wanted {spec.shape}")
        return {key: value.numpy() for key, value in signature(**inputs).items()}


def decoded(value):
    """JSON with the base64 of binary values decoded."""
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, dict):
        return {key: decoded(part) for key, part in value.items()}
    return [decoded(part) for part in value] if isinstance(value, list) else value


def rest(served):
    """An HTTP server with TensorFlow Serving's `:predict`, and the resident memory in kB at `/memory`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            with open("/proc/self/statm") as file:
                self.reply(200, int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                self.reply(200, self.predict(json.loads(body)))
            except REFUSED as error:
                self.reply(400, {"error": str(error)})

        def predict(self, request):
            name, rows = request.get("signature_name"), decoded(request.get("instances"))
            if rows is None:
                return {"outputs": self.listed(served.answer(name, decoded(request["inputs"])))}
            if not all(isinstance(row, dict) for row in rows):
                rows = [{"x": row} for row in rows]
            columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}
            outputs = self.listed(served.answer(name, columns))
            return {
                "predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
            }

        def listed(self, outputs):
            return {key: value.tolist() for key, value in outputs.items()}

        def reply(self, status, value):
            text = json.dumps(value, allow_nan=False).encode()  # strict JSON, or no answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    return http.server.ThreadingHTTPServer(("localhost", 0), Handler)


def grpc_server(served):
    """Starts a gRPC server by `tensorflow-serving-api`; returns it and its port, or None and 0."""
    try:
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError:
        return None, 0

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            response = predict_pb2.PredictResponse(model_spec=request.model_spec)
            try:
                inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
                for key, value in served.answer(request.model_spec.signature_name, inputs).items():
                    response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            except REFUSED as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:1000])
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    return server, port


def main(folder):
    served = Served(folder)
    kept, port = grpc_server(served)  # it ends when it is collected
    with rest(served) as server:
        print(json.dumps({"rest": server.server_port, "grpc": port}), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    del kept


if __name__ == "__main__":
    main(sys.argv[1])
