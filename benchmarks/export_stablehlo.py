"""Compiled training steps as StableHLO, with their arguments and results: to be run with any StableHLO runner.

    DIR/NAME.mlir           a training step: (x, y, variables...) -> (loss, updated variables...)
    DIR/inputs/NAME.npz     arg0, arg1, ...: its arguments
    DIR/outputs/NAME.npz    out0, out1, ...: its results, by TensorFlow on this machine's CPU
    DIR/manifest.json       for each: the model, floating point operations, the loss, what each argument is

Two runs that agree have the same loss up to rounding, and the same gradients: Adam's momenta after one step are 0.1
times these. (Its step is the gradient's sign, hardly more, so that the weights tell less.) Under `mixed_bfloat16` the
networks round to 8 bits; there the results are XLA's, since TensorFlow's own CPU kernels add up the gradients of the
biases in 8 bits, too, and lose half of them. Those of float32 owe nothing to XLA.
"""

import contextlib
import json
import pathlib
import re
from typing import Annotated
from unittest import mock

import numpy as np
import typer

from benchmarks import cases, flops
from benchmarks.machine import machine, versions

CASES = {"glow_28x28x1": "glow_64", "glow_32x32x3": "glow_rgb", "real_nvp": "real_nvp_4096"}
POLICIES = ("float32", "mixed_bfloat16")
LEARNING_RATE = 1e-3
NOISE = 0.02
_ARGUMENT = re.compile(r"%arg\d+: tensor<([^>]*)>")
_ALIAS = re.compile(r"parameter_number = (\d+)[^}]*}, output_index = array<i64: (\d+)>")
_DTYPES = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "i1": "bool", "ui32": "uint32"}


def export(
    out: Annotated[pathlib.Path, typer.Argument(help="Folder for the modules, their arguments and the manifest.")],
    only: Annotated[str, typer.Option(help="Modules whose name contains this, such as real_nvp or bfloat16.")] = "",
    seed: Annotated[int, typer.Option(help="Of the weights and the data.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models: does it run?")] = False,
):
    """Training steps of Glow and RealNVP as StableHLO, in float32 and mixed_bfloat16, with arguments and results."""
    from benchmarks.run import progress

    chosen = cases.QUICK_CASES if quick else {name: cases.CASES[case] for name, case in CASES.items()}
    modules = {f"{name}.{policy}": (case, policy) for name, case in chosen.items() for policy in POLICIES}
    modules = {name: module for name, module in modules.items() if only in name}
    if not modules:
        raise typer.BadParameter(f"--only is {only!r}; wanted a part of the name of a module.")
    for folder in (out, out / "inputs", out / "outputs"):
        folder.mkdir(parents=True, exist_ok=True)
    manifest = {"machine": machine(), "versions": versions(), "seed": seed, "modules": []}
    with progress(len(modules)) as advance:
        for name, (case, policy) in modules.items():
            advance(name, 0)
            manifest["modules"].append(_export(out, name, case, policy, seed))
            (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
            advance(name)


def _export(out, name, case, policy, seed):
    import tensorflow as tf

    x, y = (tf.constant(batches[0]) for batches in cases.batches(case, seed))
    model = _model(case, policy, x, y, seed)
    with _as_on_an_accelerator():
        text = model.stablehlo(x, y)
        options = dict(autograph=False, jit_compile=policy != "float32")
        step = tf.function(lambda x, y: model.train_step((x, y))["loss"], **options).get_concrete_function(x, y)
    names, before = _arguments(step, x, y)
    _check_arguments(name, text, before)
    loss = step(x, y).numpy()
    after = _arguments(step, x, y)[1]
    results = {0: loss} | {int(result): after[int(argument)] for argument, result in _ALIAS.findall(text)}

    files = f"{name}.mlir", f"inputs/{name}.npz", f"outputs/{name}.npz"
    (out / files[0]).write_text(text)
    np.savez_compressed(out / files[1], **{f"arg{i}": value for i, value in enumerate(before)})
    np.savez_compressed(out / files[2], **{f"out{i}": results[i] for i in sorted(results)})
    return {
        "name": name,
        "model": str(case),
        "case": cases.to_json(case),
        "policy": policy,
        "optimizer": f"Adam({LEARNING_RATE})",
        "module": files[0],
        "inputs": files[1],
        "outputs": files[2],
        "items_per_step": case.batch,
        "flops_per_step": flops.TRAINING * flops.forward_flops(case) * case.batch,
        "loss_on_cpu": float(loss),
        "arguments": [
            {"name": name, "shape": value.shape, "dtype": value.dtype.name}
            for name, value in zip(names, before, strict=True)
        ],
    }


def _model(case, policy, x, y, seed):
    import keras

    import tfp_hybrid as hy

    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    if case.family == "glow":
        flow = hy.bijectors.Glow(case.shape, case.levels, case.steps, case.hidden, quantization_levels=None)
        head = hy.heads.Categorical(case.classes)
    else:
        flow = hy.bijectors.RealNVP(case.shape, case.couplings, hidden_units=(case.hidden, case.hidden))
        head = hy.heads.HeteroscedasticNormal()
    weight = case.generative_weight / cases.dimensions(case)
    model = hy.HybridModel(hy.flow_distribution(flow), head, generative_weight=weight)
    keras.config.set_dtype_policy(before)
    model.adapt(x, y)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:  # else the last layers are zero, and the networks have no say
        weight.assign(weight + rng.normal(scale=NOISE, size=weight.shape))
    model.compile(keras.optimizers.Adam(LEARNING_RATE), jit_compile=True)
    return model


@contextlib.contextmanager
def _as_on_an_accelerator():
    """Traces what TensorFlow would trace where there is a GPU: some layers are written differently for CPUs."""
    import tensorflow as tf

    device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    with mock.patch.object(tf.config, "list_physical_devices", lambda device_type=None: [device]):
        yield


def _arguments(step, x, y):
    """Names and values of x, y and of what the step captures, in the order of the module's arguments."""
    variables = {id(variable.handle): variable for variable in step.variables}
    names, values = ["x", "y"], [x.numpy(), y.numpy()]
    for captured in step.captured_inputs:
        variable = variables.get(id(captured))
        names.append("constant" if variable is None else variable.name)
        values.append((captured if variable is None else variable).numpy())
    return names, values


def _check_arguments(name, text, values):
    """Raises ValueError unless the module has these arguments, and no batch is compiled into it."""
    start = text.index("@main(")
    found = [tensor.split("x") for tensor in _ARGUMENT.findall(text[start : text.index("->", start)])]
    found = [(tuple(map(int, sizes)), _DTYPES[dtype]) for *sizes, dtype in found]
    wanted = [(value.shape, value.dtype.name) for value in values]
    if found != wanted:
        raise ValueError(
            f"{name}: the module has {len(found)} arguments, of which the first are {found[:3]}; wanted {len(wanted)}: "
            f"{wanted[:3]} ... If x is missing, XLA compiles each batch anew."
        )
