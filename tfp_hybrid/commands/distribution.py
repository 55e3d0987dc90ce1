"""Training by several processes: the strategy of this one, and the start of all of them on this machine."""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import tensorflow as tf

CONFIGURATION = "TF_CONFIG"
"""The environment variable that tells a process its cluster, and its task in it."""
_PARENT = "TFP_HYBRID_PARENT"


def is_worker() -> bool:
    """Returns whether this process is one of several workers."""
    return bool(os.environ.get(CONFIGURATION))


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """Returns the strategy of this process: of several workers if TF_CONFIG names a cluster, or else of one device.

    It must be called before TensorFlow does anything else, since collective operations are set up once.
    """
    if not is_worker():
        return tf.distribute.get_strategy()
    parent = os.environ.get(_PARENT)
    if parent:
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    return tf.distribute.MultiWorkerMirroredStrategy()


def _end_with(parent):
    """Ends this process by SIGTERM when the one that has started it is gone, even by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def run_workers(arguments: list[str], count: int):
    """Runs `tfp-hybrid` in several processes of this machine, which are each other's workers, until all have ended.

    The first one, the chief, prints and writes as a single process would. If this process ends, they end, too.

    Args:
      arguments: The arguments of the command line.
      count: The number of processes.

    Raises:
      ChildProcessError: If one of them fails; the others are then ended.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    with contextlib.ExitStack() as stack:
        logs = [None] + [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(1, count)]
        processes = []
        for index, log in enumerate(logs):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            env = os.environ | {CONFIGURATION: json.dumps(task), _PARENT: str(os.getpid())}
            command = [sys.executable, "-m", "tfp_hybrid.cli", *arguments]
            processes.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        try:
            failed = _first_failed(processes)
        finally:
            for process in processes:  # after an error, or an interruption, which all of them have got
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
        if failed is not None:
            said = "It said why."
            if logs[failed]:
                logs[failed].seek(0)
                said = " ".join(logs[failed].read().split()[-60:])
            raise ChildProcessError(f"Worker {failed} ended with status {processes[failed].returncode}. {said}")


def _first_failed(processes):
    """Waits until one process has failed, and returns its number; None if all have ended well.

    Others then fail for want of it, so the chief, which checks most, counts as the first for a while.
    """
    while True:
        codes = [process.poll() for process in processes]
        if any(codes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return 0 if processes[0].wait(timeout=5) else next(i for i, code in enumerate(codes) if code)
            return next(i for i, code in enumerate(codes) if code)
        if None not in codes:
            return None
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
