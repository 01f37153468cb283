"""Makes embeddings comparable: whitened and of length 1, so that cosine distances mean the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfuse.errors import InvalidRequest

Vectors = npt.NDArray[np.float32]
"""`[n, width]` or `[width]`, float32."""


def unit(vectors: npt.ArrayLike) -> Vectors:
    """`[n, width]` vectors scaled to length 1.

    Raises:
        InvalidRequest: one is not finite, or has no direction.
    """
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        wrong = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise InvalidRequest(f"expected finite vectors other than zero; row {wrong} is not")
    return np.asarray(rows / lengths, dtype=np.float32)


def reach_of(reference: Vectors, share: float = 0.01) -> float:
    """Cosine distance within which only a `share` of the pairs of `reference` lies: nearer than chance brings them.

    Embeddings of one model crowd in a cone, so distances mean something only beside those of unrelated requests.
    """
    pairs = np.triu_indices(len(reference), k=1)
    return float(np.quantile((1 - reference @ reference.T)[pairs], share))


@dataclass(frozen=True, slots=True)
class Whitening:
    """Makes embeddings comparable: what varies among unrelated requests anyway counts less.

    Args:
        mean: `[width]`, of the reference.
        matrix: `[width, width]`.
    """

    mean: Vectors
    matrix: Vectors

    @classmethod
    def of(cls, reference: npt.ArrayLike, shrink: float = 0.01) -> Whitening:
        """The transform W = V (Λ + shrink · mean(Λ))^(-1/2) for the covariance V Λ Vᵀ of `reference` `[n, width]`.

        PCA whitening with shrunk eigenvalues (Kessy, Lewin & Strimmer, The American Statistician 72, 2018), for
        sentence embeddings as in arXiv 2103.15316. A new operation in known structures is a small change of a hidden
        state that is mostly about the structure; whitened, it is what stands out.
        """
        rows = np.asarray(reference, dtype=np.float64)
        mean = rows.mean(axis=0)
        values, directions = np.linalg.eigh(np.atleast_2d(np.cov(rows - mean, rowvar=False)))
        scale = 1 / np.sqrt(np.maximum(values, 0) + shrink * values.mean())
        return cls(np.asarray(mean, dtype=np.float32), np.asarray(directions * scale, dtype=np.float32))

    def unit(self, vectors: npt.ArrayLike) -> Vectors:
        """`[n, width]` embeddings, whitened and scaled to length 1."""
        return unit((np.atleast_2d(np.asarray(vectors, dtype=np.float32)) - self.mean) @ self.matrix)

    def distance(self, vector: npt.ArrayLike) -> float:
        """Mahalanobis distance of an embedding `[width]` from the mean of the reference, by the shrunk covariance."""
        return float(np.linalg.norm((np.asarray(vector, dtype=np.float32) - self.mean) @ self.matrix))
