"""Figures that the paper reports, quoted second-hand; none of them was measured with this package."""

# The text of the version with section 3.1 was not available, so the figures could not be checked.
SOURCE = (
    'Nalisnick et al., "Hybrid Models with Deep and Invertible Features", section 3.1, quoted second-hand, not checked '
    "against the paper"
)

# MNIST against NotMNIST with lambda = 0.01/D: error and NLL on MNIST's test images, NLL and entropy on NotMNIST.
MNIST = {"error": 0.0073, "nll": 0.033, "not_mnist_nll": 10.10, "not_mnist_entropy": 0.3695}

# Mean NLL of p(y|x) in nats, of y's own unit, on the standard splits of UCI's regression sets; lower is better.
UCI = {
    "deep ensembles": {
        "bostonHousing": 2.41,
        "concrete": 3.06,
        "energy": 1.38,
        "kin8nm": -1.20,
        "naval-propulsion-plant": -5.63,
        "power-plant": 2.79,
        "protein-tertiary-structure": 2.83,
        "wine-quality-red": 0.94,
        "yacht": 1.18,
    },
    "TreeFlow": {"power-plant": 2.65, "protein-tertiary-structure": 2.02},
}
UCI_SOURCE = (
    "deep ensembles of Lakshminarayanan, Pritzel and Blundell 2017, and TreeFlow of Wielopolski and Zieba 2022; quoted "
    "second-hand, not checked against the papers"
)
