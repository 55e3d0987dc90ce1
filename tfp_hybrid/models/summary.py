"""The steps of a model's flow as a table, below what Keras prints of its layers."""

import rich.box
import rich.console
import rich.markup
import rich.table

from tfp_hybrid.bijectors.description import steps_of


def print_flow(model, print_fn=None):
    """Prints a row for each step of the flow, from x to z.

    Args:
      model: A `DensityModel`.
      print_fn: A function of the text; None prints it.
    """
    title = f"From {model.density_of} to z, by the flow's steps" + (
        "" if model.encoder is None else ": log p(features)"
    )
    table = rich.table.Table(title=title, title_justify="left", box=rich.box.HEAVY_HEAD)
    for heading, justify in (("Step", "left"), ("Input Shape", "left"), ("Output Shape", "left"), ("Weights", "right")):
        table.add_column(heading, justify=justify)
    for step in steps_of(model.flow, model.distribution.event_shape):
        shapes = (str((None, *shape)) for shape in (step.event_shape, step.latent_shape))
        table.add_row(rich.markup.escape(step.name), *shapes, f"{step.num_weights:,}")
    console = rich.console.Console()
    if print_fn is None:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print_fn(captured.get())
