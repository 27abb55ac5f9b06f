"""D_sys: how far two protected templates can be told to be of one person (ISO/IEC 30136).

From M. Gomez-Barrero, J. Galbally, C. Rathgeb, C. Busch, "General Framework to Evaluate
Unlinkability in Biometric Template Protection Systems", IEEE Transactions on Information Forensics
and Security 13(6), 2018.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 100
# The paper's own program takes a tenth of the scores as bins. With so few in each, chance alone
# reads as linkability: some 0.4 / sqrt(2 * scores a bin). A hundred in each keep that under 0.03.
SCORES_A_BIN = 100
FEWEST_BINS = 10

Scores = NDArray[np.floating]


def unlinkability(mated: Scores, non_mated: Scores, omega: float = 1.0) -> float:
    """D_sys of linkage scores: 0 is fully unlinkable, 1 fully linkable.

    *mated* compare templates of one person made under two keys, *non_mated* of two people under
    two keys. With the likelihood ratio LR(s) = p(s | mated) / p(s | non-mated) and *omega* =
    P(mated) / P(non-mated), 1 where nothing is known,

        D(s) = 0 where LR(s) * omega <= 1, else 2 * LR * omega / (1 + LR * omega) - 1
        D_sys = integral of p(s | mated) * D(s) ds

    with densities from histograms over the common range. Raises ValueError with fewer than
    1,000 scores of either kind, of which nothing can be said.
    """
    fewest = FEWEST_BINS * SCORES_A_BIN
    if min(len(mated), len(non_mated)) < fewest:
        raise ValueError(
            f"{len(mated)} mated and {len(non_mated)} non-mated scores: at least {fewest} each"
        )
    bins = min(min(len(mated), len(non_mated)) // SCORES_A_BIN, MOST_BINS)
    low = float(min(mated.min(), non_mated.min()))
    high = float(max(mated.max(), non_mated.max()))
    of_mated = np.histogram(mated, bins, (low, high))[0] / len(mated)
    of_others = np.histogram(non_mated, bins, (low, high))[0] / len(non_mated)
    weighed = of_mated * omega
    # 2 * x / (1 + x) - 1 with x = weighed / of_others, without dividing by an empty bin.
    total = np.maximum(weighed + of_others, 1e-300)
    local = np.maximum((weighed - of_others) / total, 0.0)
    return float(np.sum(of_mated * local))
