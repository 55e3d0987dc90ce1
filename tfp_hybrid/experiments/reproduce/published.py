"""Figures that the paper reports, as it reports them; nothing here was measured by us."""

SOURCE = "Nalisnick et al. 2019, Hybrid Models with Deep and Invertible Features (https://arxiv.org/abs/1902.02767)"

# MNIST against NotMNIST, lambda = 0.01/D: error and NLL of MNIST's test images, NLL and entropy of NotMNIST's.
MNIST = {"error": 0.0073, "nll": 0.033, "not_mnist_nll": 10.10, "not_mnist_entropy": 0.3695}
