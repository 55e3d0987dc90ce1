"""`State`: a copy of all that training changes."""

import keras


class State:
    """A copy of the variables of a compiled model and of its optimizer.

    Args:
      model: A compiled Keras model.
    """

    def __init__(self, model: keras.Model):
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = getattr(model, "changing_variables", model.variables)
        self._variables = [*variables, *model.optimizer.variables]
        self._values = [keras.ops.convert_to_numpy(variable).copy() for variable in self._variables]

    def restore(self):
        """Assigns the copied values to the variables."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
