"""Several workers: processes that train one model together, under a `tf.distribute` strategy."""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the replicas of a strategy are spread over several processes."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    return strategy.num_replicas_in_sync > len(strategy.extended.worker_devices)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes the files: the first of several workers, or the only process."""
    resolver = strategy.cluster_resolver
    if not is_multi_worker(strategy) or resolver.task_type == "chief":
        return True
    return resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")


def of_chief(strategy: tf.distribute.Strategy, values: Sequence) -> list:
    """Returns the chief's values on all workers, each of which must call this with numbers of the same shapes.

    Args:
      strategy: The strategy.
      values: Numbers, arrays or tensors.
    """
    if not is_multi_worker(strategy):
        return list(values)
    tensors = [tf.convert_to_tensor(value) for value in values]

    def here():
        context = tf.distribute.get_replica_context()
        mine = context.replica_id_in_sync_group == 0
        return [context.all_reduce("SUM", tf.where(mine, tensor, tf.zeros_like(tensor))) for tensor in tensors]

    return _on_replicas(strategy, here)()


def agree(strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable | tf.Variable]):
    """Gives the variables on all workers the chief's values.

    What a model takes from its data before training, such as ActNorm's scales, depends on what each worker has read.
    """
    if is_multi_worker(strategy):
        values = of_chief(strategy, [keras.ops.convert_to_tensor(variable) for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def of_each(strategy: tf.distribute.Strategy, number: int) -> list[int]:
    """Returns the whole numbers of all workers, each of which must call this; one for each replica."""
    if not is_multi_worker(strategy):
        return [number]
    return _gather(strategy)(tf.constant(number, tf.int64)).numpy().tolist()


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Returns whether the flag is set on any of the workers, each of which must call this."""
    return any(of_each(strategy, int(flag)))


@functools.cache  # `any_worker` is asked after every step
def _gather(strategy):
    """Makes a function that gathers one number of each replica."""

    def here(number):
        context = tf.distribute.get_replica_context()
        place = tf.one_hot(context.replica_id_in_sync_group, strategy.num_replicas_in_sync, dtype=tf.int64)
        return context.all_reduce("SUM", number * place)

    return _on_replicas(strategy, here)


def _on_replicas(strategy, here):
    """Makes a function that runs `here` on the replicas of this worker, and returns what the first one finds."""
    run = tf.function(lambda *args: strategy.run(here, args), autograph=False)

    def function(*args):
        with strategy.scope():
            found = run(*args)
        return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], found)

    return function
