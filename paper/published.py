"""Figures that the paper reports, quoted second-hand; none of them was measured with this package."""

# The text of the version with section 3.1 was not available, so the figures could not be checked.
SOURCE = (
    'Nalisnick et al., "Hybrid Models with Deep and Invertible Features", section 3.1, quoted second-hand, not checked '
    "against the paper"
)

# MNIST against NotMNIST with lambda = 0.01/D: error and NLL on MNIST's test images, NLL and entropy on NotMNIST.
MNIST = {"error": 0.0073, "nll": 0.033, "not_mnist_nll": 10.10, "not_mnist_entropy": 0.3695}
