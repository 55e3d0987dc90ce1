"""A posterior of many coefficients, in the memory that it promises."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, time
import numpy as np, tensorflow_probability as tfp
import tfp_hybrid as hy
tfd, tfb = tfp.distributions, tfp.bijectors
rng = np.random.default_rng(0)
x, y = rng.normal(size=(20_000, 784)).astype("float32"), rng.integers(0, 1000, 20_000)
p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(784, "float32")), tfb.Identity())
model = hy.HybridModel(p_x, hy.heads.Categorical(1000))
started = time.time()
posterior = hy.bayes.fit(model, x, y, prior=1.0)
probs = model.predict(x[:512], verbose=0)
assert posterior.structure == "kronecker" and np.allclose(probs.sum(1), 1, atol=1e-4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, time.time() - started)
"""


@pytest.mark.nightly
def test_a_thousand_classes_of_784_features_fit_in_2_gb():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    peak, seconds = map(float, done.stdout.split())
    print(f"\npeak {peak:.2f} GiB, {seconds:.0f} s")
    assert peak < 2.0
