"""The figures of the paper on MSP-Podcast 1.11. Reports print them in tables of their own.

UA and retrieval are in percent, as in the paper; None where it has no figure. Row names are those of `mmer reproduce`.
"""

CORPUS = "MSP-Podcast 1.11"

# UA, then the CCC of valence, arousal and dominance; each from a, t and a + t.
TABLE_1 = {
    "cif_mmin": (56.9, 44.0, 59.6, *(None,) * 9),
    "cascade": (58.3, 48.5, 60.8, 0.650, 0.565, 0.688, 0.673, 0.316, 0.676, 0.611, 0.310, 0.616),
    "separate": (65.6, 54.3, 66.8, 0.645, 0.545, 0.683, 0.673, 0.324, 0.676, 0.603, 0.301, 0.607),
    "late_fusion": (65.6, 54.3, 61.0, 0.645, 0.545, 0.675, 0.673, 0.324, 0.671, 0.603, 0.301, 0.598),
    "shared": (64.2, 54.4, 67.6, 0.656, 0.568, 0.701, 0.683, 0.328, 0.682, 0.612, 0.317, 0.616),
    "contr": (65.1, 55.0, 67.9, 0.642, 0.568, 0.694, 0.678, 0.329, 0.679, 0.613, 0.310, 0.614),
    "mae": (63.2, 54.6, 67.3, 0.632, 0.573, 0.700, 0.680, 0.334, 0.673, 0.607, 0.318, 0.602),
    "contr_mae": (66.6, 54.5, 68.3, 0.656, 0.571, 0.694, 0.679, 0.331, 0.677, 0.612, 0.313, 0.610),
}
# Audio input and output, text input and output.
TABLE_2 = {
    "random_init": (2.2, 5.0, 2.0, 4.8),
    "projected": (0.016, 0.0014, 0.008, 0.0013),
    "mae": (4.3, 3.0, 4.0, 2.7),
}
# Retrieval from a and t, then UA from a, t and a + t.
TABLE_3 = {
    "shared": (6.1, 5.5, 64.2, 54.4, 67.6),
    "without_g": (88.0, 91.6, 63.6, 54.5, 67.2),
    "absolute": (34.3, 35.2, 65.3, 54.8, 67.3),
    "contr": (42.5, 44.8, 65.1, 55.0, 67.9),
}
