"""Fisher vectors and their mixture beside scikit-image, VLFeat and scikit-learn: one thread each, in turns.

    python benchmarks/fisher.py [--patches 100000]

Encoding: 200 encounters of 150 patches; 512 components of 128 dimensions, as in the paper. VLFeat's C function is
called where `libvl.so` is installed (Debian: libvlfeat-dev), as cyvlfeat does. All get the patches after PCA; ours is
also timed with PCA, as it runs in the product. Fit: three iterations of EM from the same start.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import ctypes
import ctypes.util
import warnings
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage.feature import fisher_vector
from sklearn.mixture import GaussianMixture
from timing import best_of

from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.fisher.mixture import Mixture, expectation_maximisation, summed

K, D, ENCOUNTERS, PATCHES, ITERATIONS = 512, 128, 200, 150, 3
FLOAT, IMPROVED = 1, 3  # VL_TYPE_FLOAT; VL_FISHER_FLAG_SQUARE_ROOT | NORMALIZED


class AfterPCA(Codebook):
    """Takes what the others take: patches that are projected already."""

    def project(self, embeddings: torch.Tensor) -> torch.Tensor:
        return embeddings


def main(patches: int) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    mixture, x = data(rng, ENCOUNTERS * PATCHES)
    encounters = list(x.reshape(ENCOUNTERS, PATCHES, D))
    codebook = AfterPCA(torch.zeros(D), torch.eye(D), mixture)
    wide = Codebook(torch.zeros(4 * D), torch.eye(4 * D)[:, :D].contiguous(), mixture)
    padded = [np.pad(e, ((0, 0), (0, 3 * D))).astype(np.float16) for e in encounters]
    found: dict[str, np.ndarray] = {}

    def keep(name: str, encode: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: found.update({name: encode()})

    gmm = scikit(mixture)
    jobs: dict[str, Callable[[], object]] = {
        "pusa": keep("pusa", lambda: fisher_vectors(codebook, encounters)),
        "pusa, with PCA from 512": keep("pusa, with PCA from 512", lambda: fisher_vectors(wide, padded)),
        "scikit-image": keep("scikit-image", lambda: np.stack([with_scikit_image(gmm, e) for e in encounters])),
    }
    if library := ctypes.util.find_library("vl"):
        jobs["VLFeat"] = keep("VLFeat", lambda: with_vlfeat(ctypes.CDLL(library), mixture, encounters))
    wall, cpu = best_of(jobs)
    table = Table("encoding", "ms an encounter", "CPU ms", "of pusa's", "largest difference", title_justify="left")
    for name in jobs:
        apart = np.abs(found[name] - found["pusa"]).max()
        times = 1000 * wall[name] / ENCOUNTERS, 1000 * cpu[name] / ENCOUNTERS
        table.add_row(name, f"{times[0]:.2f}", f"{times[1]:.2f}", f"{wall[name] / wall['pusa']:.2f}", f"{apart:.1e}")
    Console().print(table)
    fit(rng, patches)


def fit(rng: np.random.Generator, patches: int) -> None:
    _, x = data(rng, patches)
    means = x[rng.choice(patches, K, replace=False)]
    sigma = x.var(0)
    begin = Mixture(torch.full((K,), 1 / K), torch.from_numpy(means), torch.from_numpy(np.tile(sigma, (K, 1))))
    likelihood: dict[str, float] = {}

    def ours() -> None:
        kept = torch.from_numpy(x)
        floor = torch.full((D,), 1e-6)
        fitted = expectation_maximisation(lambda m: summed(m, kept), begin, ITERATIONS, -1, floor, rng)
        likelihood["pusa"] = summed(fitted, kept).log_likelihood / patches

    def theirs() -> None:
        reference = GaussianMixture(
            K, covariance_type="diag", reg_covar=1e-6, tol=0, max_iter=ITERATIONS, means_init=means,
            weights_init=np.full(K, 1 / K, np.float32), precisions_init=np.tile(1 / sigma, (K, 1)),
            init_params="random_from_data",
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged: that is the point
            likelihood["scikit-learn"] = reference.fit(x).score(x)

    wall, cpu = best_of({"pusa": ours, "scikit-learn": theirs}, rounds=2)
    table = Table("fit", "s an iteration", "CPU s", "of pusa's", "mean log-likelihood", title=f"{patches} patches")
    for name in wall:
        each = wall[name] / (ITERATIONS + 1), cpu[name] / (ITERATIONS + 1)  # one pass more gives the likelihood
        table.add_row(
            name, f"{each[0]:.2f}", f"{each[1]:.2f}", f"{wall[name] / wall['pusa']:.2f}", f"{likelihood[name]:.4f}"
        )
    Console().print(table)


def data(rng: np.random.Generator, n: int) -> tuple[Mixture, np.ndarray]:
    """A mixture of K components, and n patches (n, D) float32 drawn from it."""
    w, m, s = rng.dirichlet(np.full(K, 3.0)), rng.standard_normal((K, D)) * 0.1, rng.uniform(0.05, 0.15, (K, D))
    which = rng.choice(K, n, p=w)
    x = m[which] + s[which] * rng.standard_normal((n, D))
    return Mixture(*(torch.from_numpy(a).float() for a in (w, m, s**2))), x.astype(np.float32)


def scikit(mixture: Mixture) -> GaussianMixture:
    gmm = GaussianMixture(K, covariance_type="diag")
    gmm.weights_, gmm.means_, gmm.covariances_ = (
        t.numpy() for t in (mixture.weights, mixture.means, mixture.variances)
    )
    gmm.precisions_cholesky_ = 1 / np.sqrt(gmm.covariances_)
    return gmm


def with_scikit_image(gmm: GaussianMixture, encounter: np.ndarray) -> np.ndarray:
    """Its weight gradients dropped, and the sign of its deviation block turned, as VLFeat has it."""
    raw = fisher_vector(encounter, gmm)
    raw = np.concatenate([raw[K : K + K * D], -raw[K + K * D :]])
    rooted = np.sign(raw) * np.sqrt(np.abs(raw))
    return rooted / np.linalg.norm(rooted)


def with_vlfeat(library: ctypes.CDLL, mixture: Mixture, encounters: list[np.ndarray]) -> np.ndarray:
    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    library.vl_set_num_threads(1)
    parts = [np.ascontiguousarray(t.numpy()) for t in (mixture.means, mixture.variances, mixture.weights)]
    result = np.zeros((len(encounters), 2 * K * D), np.float32)
    size = ctypes.c_size_t
    for row, encounter in zip(result, encounters, strict=True):
        library.vl_fisher_encode(
            pointer(row), ctypes.c_uint(FLOAT), pointer(parts[0]), size(D), size(K), pointer(parts[1]),
            pointer(parts[2]), pointer(encounter), size(len(encounter)), ctypes.c_int(IMPROVED),
        )  # fmt: skip
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=100_000)
    main(parser.parse_args().patches)
