"""Training by several processes: the strategy of this one, and the start of all of them on this machine."""

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import tensorflow as tf

CONFIGURATION = "TF_CONFIG"
"""The environment variable that tells a process its cluster, and its task in it."""


def is_worker() -> bool:
    """Returns whether this process is one of several workers."""
    return bool(os.environ.get(CONFIGURATION))


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """Returns the strategy of this process: of several workers if TF_CONFIG names a cluster, or else of one device.

    It must be called before TensorFlow does anything else, since collective operations are set up once.
    """
    if is_worker():
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def run_workers(arguments: list[str], count: int):
    """Runs `tfp-hybrid` in several processes of this machine, which are each other's workers, until all have ended.

    The first one, the chief, prints and writes as a single process would.

    Args:
      arguments: The arguments of the command line.
      count: The number of processes.

    Raises:
      ChildProcessError: If one of them fails; the others are then ended.
    """
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    with tempfile.TemporaryFile("w+") as log:
        processes = []
        for index in range(count):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            output = {} if index == 0 else {"stdout": log, "stderr": log}
            command = [sys.executable, "-m", "tfp_hybrid.cli", *arguments]
            env = os.environ | {CONFIGURATION: json.dumps(task)}
            processes.append(subprocess.Popen(command, env=env, **output))
        try:
            codes = _codes(processes)
        finally:
            for process in processes:  # after an error, or an interruption, which all of them have got
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
        failed = [index for index, code in enumerate(codes) if code]
        if failed:
            log.seek(0)
            last = "".join(log.readlines()[-5:])
            raise ChildProcessError(
                f"Worker {failed[0]} of {count} ended with status {codes[failed[0]]}. {last}".strip()
            )


def _codes(processes):
    """Waits until all processes have ended, or one has failed; returns their exit codes."""
    while True:
        codes = [process.poll() for process in processes]
        if any(codes) or None not in codes:
            return codes
        time.sleep(0.1)


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
