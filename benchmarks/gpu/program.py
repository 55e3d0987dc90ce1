"""Runs an exported StableHLO module with jax: inside a jitted function, or by itself.

`Program.call` puts the module into any traced function, such as the body of `jax.lax.scan`, by way of `jax.export`.
Should that fail, `Program.executable` compiles the module on its own, to be called from a Python loop. Both use names
that are private to jax; they were checked with jax 0.10.2 and 0.11.2.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)  # before any array: modules have 64-bit integers among their arguments

_DTYPES = {
    "f64": np.float64,
    "f32": np.float32,
    "bf16": jnp.bfloat16,
    "f16": np.float16,
    "i64": np.int64,
    "i32": np.int32,
    "i8": np.int8,
    "ui64": np.uint64,
    "ui32": np.uint32,
    "ui8": np.uint8,
    "i1": np.bool_,
}


class Program:
    """An exported module.

    Args:
      text: portable StableHLO, as `benchmarks.stablehlo.portable` makes it.

    Attributes:
      arguments, results: `jax.ShapeDtypeStruct`s.
    """

    def __init__(self, text: str):
        from jax._src.export import _export
        from jax._src.interpreters import mlir
        from jaxlib.mlir import ir

        self._text = text
        with mlir.make_ir_context():
            module = ir.Module.parse(text)
            main = next(op for op in module.body.operations if ir.StringAttr(op.attributes["sym_name"]).value == "main")
            function = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
            self.arguments = [_struct(kind) for kind in map(ir.RankedTensorType, function.inputs)]
            self.results = [_struct(kind) for kind in map(ir.RankedTensorType, function.results)]
            self._code = _export._module_to_bytecode(module)

    @functools.cached_property
    def _exported(self):
        def stand_in(*arguments):
            return tuple(jnp.zeros(result.shape, result.dtype) for result in self.results)

        backend = jax.default_backend()
        platform = {"gpu": "cuda"}.get(backend, backend)
        template = jax.export.export(jax.jit(stand_in, keep_unused=True), platforms=(platform,))(*self.arguments)
        kept = tuple(range(len(self.arguments)))
        return dataclasses.replace(template, mlir_module_serialized=self._code, module_kept_var_idx=kept)

    def call(self, *arguments):
        """The results, a tuple; inside a traced function, too."""
        return self._exported.call(*arguments)

    def executable(self, device):
        """The module compiled by itself: a function from a list of arrays on the device to one of results."""
        from jax._src import compiler
        from jax._src.interpreters import mlir
        from jax._src.lib import xla_client
        from jaxlib.mlir import ir

        options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
        with mlir.make_ir_context():
            module = ir.Module.parse(self._text)
            devices = xla_client.DeviceList((device,))
            loaded = compiler.backend_compile_and_load(device.client, module, devices, options, [])
        return loaded.execute


def _struct(kind):
    return jax.ShapeDtypeStruct(tuple(kind.shape), _DTYPES[str(kind.element_type)])
