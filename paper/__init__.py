"""The experiments of Nalisnick et al. 2019, repeated on real data: `python -m paper`.

An experiment is a module with the functions `jobs`, what it measures, each result of which is kept in a small file, and
`tables` and `pictures`, which show the results; and with the constants `NEEDED`, the names of the results that it needs
for these, `TITLE` and `ABOUT`.
"""
