"""Several workers: processes that train one model together, under a `tf.distribute` strategy."""

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
    return _sums(strategy, [tf.convert_to_tensor(value) for value in values], only_first=True)


def agree(strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable | tf.Variable]):
    """Gives the variables on all workers the chief's values.

    What a model takes from its data before training, such as ActNorm's scales, depends on what each worker has read.
    """
    if is_multi_worker(strategy):
        values = of_chief(strategy, [keras.ops.convert_to_tensor(variable) for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Returns whether the flag is set on any of the workers, each of which must call this."""
    if not is_multi_worker(strategy):
        return flag
    return bool(_sums(strategy, [tf.constant(int(flag))])[0] > 0)


def _sums(strategy, tensors, only_first=False):
    """The sums over all replicas, or the values of the first one."""

    def here():
        context = tf.distribute.get_replica_context()
        mine = context.replica_id_in_sync_group == 0 if only_first else True
        # On a device: a collective operation wants to know which.
        return [context.all_reduce("SUM", tf.where(mine, tensor, tf.zeros_like(tensor))) for tensor in tensors]

    with strategy.scope():
        sums = tf.function(lambda: strategy.run(here))()
    return [strategy.experimental_local_results(value)[0] for value in sums]
