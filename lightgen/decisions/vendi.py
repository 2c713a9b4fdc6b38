"""The Vendi score: the effective number of distinct items in a set (Friedman and Dieng 2023)."""

import numpy as np
from jaxtyping import Float


def vendi_score(vectors: Float[np.ndarray, "n d"]) -> float:
    """exp(entropy of the eigenvalues of X X^T / n) for unit rows, by the d x d Gram matrix in float64; to nine digits.

    Further digits differ with the number of threads.
    """
    if len(vectors) == 0:
        return 0.0
    x = np.asarray(vectors, np.float64)
    # Both products have the same eigenvalues but for zeros; the smaller one is quicker.
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    eigenvalues = np.linalg.eigvalsh(gram / len(x))
    positive = eigenvalues[eigenvalues > 1e-15]
    positive = positive / positive.sum()
    return float(f"{np.exp(-(positive * np.log(positive)).sum()):.9g}")
