"""How much the linear heads on the states count beside f: fitted on the validation rows, once training is over.

Training cannot tell, since both fit its rows. Per class task and combination, α and β minimise the cross-entropy of
softmax(α · logits of f + β · logits of the state heads). With that the probabilities are calibrated on these rows, too.
"""

import numpy as np
import torch
from transformers import Trainer

from ..model.losses import NOT_LABELLED
from ..model.state_heads import StateHeads

FEWEST_ROWS = 20  # labelled; with fewer, both count alike
ALIKE = (0.5, 0.5)
CAVEAT = (
    "two weights of the state heads, for each task and combination, were fitted on the validation rows after training: "
    "report the figures of the test split"
)


def fit_balance(trainer: Trainer, rows) -> bool:
    """Set the balance of the trainer's model from its predictions of these rows, if it has such heads and was trained
    to predict. Every process must call it.

    Returns:
        whether any of it was fitted to these rows: figures on them need `CAVEAT`.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    heads: StateHeads | None = getattr(model, "state_heads", None)
    if heads is None or model.config.lambda_supervised == 0:
        return False
    of_both, labels = [], {}
    for one_alone in ((1.0, 0.0), (0.0, 1.0)):
        for task in heads.tasks:
            heads.balance(task)[:] = torch.tensor(one_alone)
        predicted = trainer.predict(rows)
        of_both.append(predicted.predictions)
        labels = predicted.label_ids
    fitted = False
    for task in heads.tasks:
        for number, name in enumerate(heads.combinations):
            pairs = [of_one.get(name, {}).get(task) for of_one in of_both]
            weights = best_balance(*pairs, labels.get(task))
            heads.balance(task)[number] = torch.tensor(weights)
            fitted = fitted or weights != ALIKE
    return fitted


def best_balance(
    of_f: np.ndarray | None, of_states: np.ndarray | None, labels: np.ndarray | None
) -> tuple[float, float]:
    """α and β, not negative, that minimise the cross-entropy of labels (n,) under α · of_f + β · of_states (n, K).

    Rows without a label or a prediction do not count; with fewer than 20 others, both are ½.
    """
    if of_f is None or of_states is None or labels is None:
        return ALIKE
    judged = (labels != NOT_LABELLED) & np.isfinite(of_f).all(-1) & np.isfinite(of_states).all(-1)
    if judged.sum() < FEWEST_ROWS:
        return ALIKE
    logits = torch.from_numpy(np.stack([of_f[judged], of_states[judged]])).double()
    targets = torch.from_numpy(labels[judged]).long()
    squared = torch.full((2,), 0.5**0.5, dtype=torch.float64, requires_grad=True)  # their squares are not negative
    optimizer = torch.optim.LBFGS([squared], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(torch.einsum("s,snk->nk", squared.square(), logits), targets)
        value.backward()
        return value

    optimizer.step(loss)
    alpha, beta = squared.detach().square().tolist()
    return alpha, beta
