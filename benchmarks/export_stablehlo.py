"""Exports compiled training steps as StableHLO, with their arguments and results, for any StableHLO runner.

    DIR/NAME.PRECISION.mlir a training step: (x, y, variables...) -> (loss, updated variables...)
    DIR/inputs/NAME.npz     arg0, arg1, ...: its arguments
    DIR/outputs/NAME.npz    out0, out1, ...: its results, by TensorFlow on this machine's CPU
    DIR/manifest.json       for each: the model, floating point operations, the loss, what each argument is

NAME ends in the dtype policy. For float32, there is a module at precision DEFAULT, for which a GPU uses TF32, and one
at HIGHEST, for which it does not. All modules are traced as on a machine with a GPU, with plain convolutions.

Two runs that agree have the same loss up to rounding and the same gradients, which can be compared by Adam's momenta:
after one step, they are 0.1 times the gradients. (Adam's first step depends on little more than the gradient's sign, so
the weights are less informative.) Under `mixed_bfloat16`, the networks round to 8 bits, and the results are from XLA,
because TensorFlow's own CPU kernels also sum the gradients of the biases in 8 bits and lose half of them. The results
for float32 do not depend on XLA.
"""

import json
import pathlib
from typing import Annotated

import numpy as np
import typer

from benchmarks import cases, flops, stablehlo
from benchmarks.machine import machine, versions

CASES = {"glow_28x28x1": "glow_64", "glow_32x32x3": "glow_rgb", "real_nvp": "real_nvp_4096"}
POLICIES = {"float32": ("DEFAULT", "HIGHEST"), "mixed_bfloat16": ("DEFAULT",)}
LEARNING_RATE = 1e-3
NOISE = 0.02


def export(
    out: Annotated[pathlib.Path, typer.Argument(help="Folder for the modules, their arguments and the manifest.")],
    only: Annotated[str, typer.Option(help="Export only modules whose name contains this, such as bfloat16.")] = "",
    seed: Annotated[int, typer.Option(help="Random seed of the weights and the data.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Make a trial run with tiny models.")] = False,
):
    """Exports training steps of Glow and RealNVP as StableHLO, in float32 and mixed_bfloat16, with their results."""
    from benchmarks.run import progress

    chosen = cases.QUICK_CASES if quick else {name: cases.CASES[case] for name, case in CASES.items()}
    modules = {f"{name}.{policy}": (case, policy) for name, case in chosen.items() for policy in POLICIES}
    modules = {name: module for name, module in modules.items() if only in name}
    if not modules:
        raise typer.BadParameter(f"--only is {only!r}; wanted part of the name of a module.")
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

    from benchmarks import exporting

    x, y = (tf.constant(batches[0]) for batches in cases.batches(case, seed))
    model = trained_model(case, policy, x, y, seed)

    def step(x, y):
        return model.train_step((x, y))["loss"]

    exported = exporting.export(step, "xy", x, y)
    before = [x.numpy(), y.numpy(), *exported.values()]
    after = exporting.results(exported, step, x, y, jit_compile=policy != "float32")
    files = [f"{name}.{precision.lower()}.mlir" for precision in POLICIES[policy]]
    for file, precision in zip(files, POLICIES[policy], strict=True):
        (out / file).write_text(stablehlo.with_precision(exported.text, precision))
    np.savez_compressed(out / f"inputs/{name}.npz", **{f"arg{i}": value for i, value in enumerate(before)})
    np.savez_compressed(out / f"outputs/{name}.npz", **{f"out{i}": value for i, value in enumerate(after)})
    return {
        "name": name,
        "model": str(case),
        "case": cases.to_json(case),
        "policy": policy,
        "optimizer": f"Adam({LEARNING_RATE})",
        "modules": dict(zip(POLICIES[policy], files, strict=True)),
        "aliases": exported.aliases,
        "inputs": f"inputs/{name}.npz",
        "outputs": f"outputs/{name}.npz",
        "items_per_step": case.batch,
        "flops_per_step": flops.TRAINING * flops.forward_flops(case) * case.batch,
        "loss_on_cpu": float(after[0]),
        "arguments": [
            {"name": name, "shape": value.shape, "dtype": value.dtype.name}
            for name, value in zip(exported.names, before, strict=True)
        ],
    }


def trained_model(case, policy, x, y, seed):
    """Returns a compiled `HybridModel` of a case with perturbed weights, ready to trace its training step."""
    import keras

    import tfp_hybrid as hy

    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    if case.family == "glow":
        flow = hy.bijectors.Glow(
            case.shape, levels=case.levels, steps=case.steps, hidden_units=case.hidden, quantization_levels=None
        )
        head = hy.heads.Categorical(case.classes)
    else:
        flow = hy.bijectors.RealNVP(case.shape, couplings=case.couplings, hidden_units=(case.hidden, case.hidden))
        head = hy.heads.HeteroscedasticNormal()
    weight = case.generative_weight / cases.dimensions(case)
    model = hy.HybridModel(hy.flow_distribution(flow), head, generative_weight=weight)
    keras.config.set_dtype_policy(before)
    model.adapt(x, y)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:  # else the last layers are zero, and the networks have no effect
        weight.assign(weight + rng.normal(scale=NOISE, size=weight.shape))
    model.compile(keras.optimizers.Adam(LEARNING_RATE), jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    model.test_step((x, y))  # builds the metrics
    model.reset_metrics()
    return model
