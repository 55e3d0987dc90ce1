"""Figures that the paper reports, as they were quoted to us; nothing here was measured by us."""

# Nalisnick et al., "Hybrid Models with Deep and Invertible Features", section 3.1. The text of the version that has
# this section could not be consulted while this was written.
SOURCE = (
    'Nalisnick et al., "Hybrid Models with Deep and Invertible Features", section 3.1, quoted second-hand, not checked '
    "against the paper"
)

# MNIST against NotMNIST, lambda = 0.01/D: error and NLL of MNIST's test images, NLL and entropy of NotMNIST's.
MNIST = {"error": 0.0073, "nll": 0.033, "not_mnist_nll": 10.10, "not_mnist_entropy": 0.3695}
