"""The experiments of Nalisnick et al. 2019, run again on real data: `tfp-hybrid reproduce`.

An experiment is a module with a function `jobs`: what it measures, each result of which is kept in a small file;
`tables` and `pictures`, which show results; `NEEDED`, the names of those that it cannot do so without; and `TITLE` and
`ABOUT`, which say what they are of.
"""
