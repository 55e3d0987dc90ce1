"""Timings and memory of tfp_hybrid, side by side with other packages: `python -m benchmarks --help`.

cases.py says what is measured, contestants/ who does it, worker.py and process.py run each contestant in a process of
its own, and rounds.py lets them take turns. A command, compare.py, overhead.py, memory.py or growth.py, puts these
together and writes a table, a JSON file and a picture.
"""
