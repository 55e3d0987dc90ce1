"""What the command line runs: training a hybrid on a data set, and reporting on it."""
