"""Time, memory and accuracy of tfp_hybrid compared with other packages: `python -m benchmarks --help`.

cases.py defines what is measured, and contestants/ the packages that are compared. worker.py and process.py run each
contestant in its own process, and rounds.py lets them take turns. The commands, such as compare.py, overhead.py,
memory.py and growth.py, combine these and write a table, a JSON file and a picture. tables.py compares the estimators
on real tables: tables_data.py has the data and tables_models.py the models.
"""
