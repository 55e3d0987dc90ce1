"""The experiments of Nalisnick et al. 2019, repeated: `python -m paper`.

An experiment is a module with the function `jobs`, which returns the measurements, and the functions `tables` and
`pictures`, which show their results. The result of each job is saved in a small file. The constants of the module are
`NEEDED`, the names of the results that the tables and pictures need, `TITLE` and `ABOUT`.
"""
