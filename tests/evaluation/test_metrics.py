"""The measures against hand-computed numbers, closed forms and plain loops, and at their boundaries."""

import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, tasks

from modeling_mmer.evaluation.figures import evaluate_predictions, flatten, score
from modeling_mmer.evaluation.metrics import (
    ccc,
    collapse_distance,
    confusion_matrix,
    macro_f1,
    mean_of_present,
    per_class_recall,
    retrieval_accuracy,
    unweighted_accuracy,
)

NAN = float("nan")
TASKS = tasks("abcd", "abc", ["valence", "arousal"])


def one_hot(classes, num_classes):
    return np.eye(num_classes)[classes]


# Three classes: 0 right 2 of 4, 1 right 1 of 1, 2 right 0 of 1; -100 is not labelled.
REFERENCES = [0, 0, 0, 0, 1, 2, -100]
PREDICTIONS = [0, 0, 1, 2, 1, 1, 0]


class TestClasses:
    def test_unweighted_accuracy_is_the_mean_recall(self):
        assert unweighted_accuracy(PREDICTIONS, REFERENCES) == pytest.approx((2 / 4 + 1 / 1 + 0 / 1) / 3)

    def test_it_does_not_depend_on_how_common_a_class_is(self):
        references = [0] * 90 + [1] * 10
        assert unweighted_accuracy([0] * 100, references) == 0.5

    def test_predicted_classes_without_references_do_not_count_as_classes(self):
        assert unweighted_accuracy([0, 3], [0, 0]) == 0.5
        assert unweighted_accuracy([1, 1], [1, 1]) == 1.0

    @pytest.mark.parametrize("measure", [unweighted_accuracy, macro_f1])
    def test_nothing_labelled_is_absent(self, measure):
        assert measure([], []) is None
        assert measure([0, 1], [-100, -100]) is None

    def test_macro_f1_by_hand(self):
        # class 0: TP 2, FP 0, FN 2 -> 4/6; class 1: TP 1, FP 2, FN 0 -> 2/4; class 2: TP 0 -> 0.
        assert macro_f1(PREDICTIONS, REFERENCES) == pytest.approx((4 / 6 + 2 / 4 + 0) / 3)

    def test_macro_f1_counts_a_class_that_is_only_predicted(self):
        # class 0: TP 1, FN 1 -> 2/3; class 5: never in the references -> 0.
        assert macro_f1([0, 5], [0, 0]) == pytest.approx((2 / 3 + 0) / 2)

    def test_confusion_matrix_rows_are_references(self):
        assert confusion_matrix(PREDICTIONS, REFERENCES, 3).tolist() == [[2, 1, 1], [0, 1, 0], [0, 1, 0]]
        assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]

    def test_per_class_recall_names_classes_and_says_which_are_absent(self):
        recall = per_class_recall(PREDICTIONS, REFERENCES, ["neutral", "sadness", "anger", "joy"])
        assert recall == {"neutral": 0.5, "sadness": 1.0, "anger": 0.0, "joy": None}
        assert mean_of_present(recall.values()) == unweighted_accuracy(PREDICTIONS, REFERENCES)

    def test_against_a_plain_loop(self):
        rng = np.random.default_rng(0)
        references, predictions = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
        recalls, scores = [], []
        for c in range(5):
            tp = sum(1 for p, r in zip(predictions, references, strict=True) if p == r == c)
            fp = sum(1 for p, r in zip(predictions, references, strict=True) if p == c != r)
            fn = sum(1 for p, r in zip(predictions, references, strict=True) if r == c != p)
            recalls.append(tp / (tp + fn))
            scores.append(2 * tp / (2 * tp + fp + fn))
        assert unweighted_accuracy(predictions, references) == pytest.approx(sum(recalls) / 5)
        assert macro_f1(predictions, references) == pytest.approx(sum(scores) / 5)

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="2 predictions but 1 references"):
            unweighted_accuracy([0, 1], [0])
        with pytest.raises(ValueError, match="arg max"):
            unweighted_accuracy(np.zeros((2, 4)), [0, 1])
        with pytest.raises(ValueError, match="whole numbers"):
            macro_f1([0.5, 1.0], [0, 1])
        with pytest.raises(ValueError, match="class -1"):
            unweighted_accuracy([0, 1], [0, -1])
        with pytest.raises(ValueError, match="class 3"):
            confusion_matrix([3], [0], 3)


class TestCCC:
    def test_by_hand(self):
        # means 2 and 7/3, cov 1, variances 2/3 and 14/9, shift 1/9: 2 / (21/9) = 6/7.
        assert ccc([1, 2, 3], [1, 2, 4]) == pytest.approx(6 / 7)

    def test_perfect_and_opposite(self):
        assert ccc([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == pytest.approx(1)
        assert ccc([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)

    @pytest.mark.parametrize("shift", [0.5, 3.0])
    @pytest.mark.parametrize("factor", [0.25, 2.0])
    def test_closed_form_for_a_line(self, shift, factor):
        # y = factor x + shift:  2 factor v / (v + factor^2 v + (mean_x - mean_y)^2), v and mean those of 0 … 9.
        x = np.arange(10.0)
        variance, mean = 99 / 12, 4.5
        expected = 2 * factor * variance / (variance * (1 + factor**2) + (mean - factor * mean - shift) ** 2)
        assert ccc(x, factor * x + shift) == pytest.approx(expected)

    def test_population_moments_against_pearson(self):
        # CCC = 2 r s_x s_y / (...), with n in every denominator; a mix with n - 1 would differ at n = 4.
        x, y = np.array([1.0, 4.0, 2.0, 8.0]), np.array([2.0, 3.0, 1.0, 9.0])
        pearson = np.corrcoef(x, y)[0, 1]
        sx, sy = x.std(ddof=0), y.std(ddof=0)
        assert ccc(x, y) == pytest.approx(2 * pearson * sx * sy / (sx**2 + sy**2 + (x.mean() - y.mean()) ** 2))

    def test_computed_in_float64(self):
        # 16,000,000 … 16,000,009 are exact in float32, their mean (… + 4.5) is not.
        x = (16_000_000 + np.arange(10)).astype(np.float32)
        variance = 99 / 12
        assert ccc(x, x + np.float32(1)) == pytest.approx(2 * variance / (2 * variance + 1), abs=1e-9)

    def test_undefined_is_absent(self):
        assert ccc([], []) is None
        assert ccc([1.0], [1.0]) is None
        assert ccc([1.0], [2.0]) is None
        assert ccc([2.0, 2.0], [2.0, 2.0]) is None
        assert ccc([1.0, 2.0], [NAN, NAN]) is None
        assert ccc([1.0, 2.0], [NAN, 2.0]) is None
        assert ccc([0.1] * 10, [0.1] * 10) is None  # the mean of ten 0.1 is not 0.1

    def test_one_constant_side_is_zero(self):
        assert ccc([0.1] * 10, list(range(10))) == 0
        assert ccc(list(range(10)), [0.1] * 10) == 0
        assert ccc([1.0, 1.0], [2.0, 2.0]) == 0

    def test_unlabelled_rows_are_left_out(self):
        assert ccc([1, NAN, 2, 3], [1, NAN, 2, 4]) == pytest.approx(6 / 7)

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="predictions contain NaN"):
            ccc([1.0, NAN], [1.0, 2.0])
        with pytest.raises(ValueError, match="2 predictions but 3 references"):
            ccc([1.0, 2.0], [1.0, 2.0, 3.0])
        with pytest.raises(ValueError, match="shape"):
            ccc([[1.0, 2.0]], [[1.0, 2.0]])


class TestRetrieval:
    def test_partners_and_permutations(self):
        eye = np.eye(8)
        assert retrieval_accuracy(eye, eye, 8) == {"audio_to_text": 1.0, "text_to_audio": 1.0}
        assert retrieval_accuracy(eye, np.roll(eye, 1, axis=0), 8) == {"audio_to_text": 0.0, "text_to_audio": 0.0}
        swapped = eye[[1, 0, 2, 3, 4, 5, 6, 7]]  # two of eight have each other's partner
        assert retrieval_accuracy(eye, swapped, 8) == {"audio_to_text": 0.75, "text_to_audio": 0.75}

    def test_the_two_directions_differ(self):
        # a_0 is longest, so every t finds a_0; each a finds its own t.
        audio = np.array([[2.0, 2.0, 2.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        text = np.array([[1.0, 1.0, 1.0], [0.0, 1.5, 0.0], [0.0, 0.0, 1.5]])
        assert retrieval_accuracy(audio, text, 3) == {"audio_to_text": 1.0, "text_to_audio": pytest.approx(1 / 3)}

    def test_groups_are_disjoint_and_the_rest_is_dropped(self):
        # Rows 0 and 2 (and 1 and 3) are alike: among four they would be mistaken, among two not. Row 4 is dropped.
        eye = np.eye(2)
        audio = np.concatenate([eye, 2 * eye, [[1.0, 0.0]]])
        text = np.concatenate([eye, 2 * eye, [[0.0, 1.0]]])
        assert retrieval_accuracy(audio, text, 2) == {"audio_to_text": 1.0, "text_to_audio": 1.0}
        assert retrieval_accuracy(audio, text, 4) == {"audio_to_text": 0.5, "text_to_audio": 0.5}

    def test_against_a_plain_loop(self):
        rng = np.random.default_rng(0)
        audio = rng.normal(size=(100, 6))
        text = audio + 0.8 * rng.normal(size=(100, 6))
        found_t = found_a = 0
        for start in (0, 32, 64):
            for i in range(start, start + 32):
                found_t += max(range(start, start + 32), key=lambda j: float(audio[i] @ text[j])) == i  # noqa: B023
                found_a += max(range(start, start + 32), key=lambda j: float(text[i] @ audio[j])) == i  # noqa: B023
        result = retrieval_accuracy(audio, text)
        assert result == {"audio_to_text": pytest.approx(found_t / 96), "text_to_audio": pytest.approx(found_a / 96)}
        assert 0 < found_t < 96

    def test_collapsed_embeddings_score_chance(self):
        zeros = np.zeros((64, 4))
        assert retrieval_accuracy(zeros, zeros) == {"audio_to_text": 1 / 32, "text_to_audio": 1 / 32}

    def test_too_few_rows_are_absent(self):
        assert retrieval_accuracy(np.eye(31), np.eye(31)) is None
        assert retrieval_accuracy([], []) is None
        assert retrieval_accuracy(np.eye(32), np.eye(32)) is not None

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="one shape"):
            retrieval_accuracy(np.eye(4), np.eye(5), 2)
        with pytest.raises(ValueError, match="group_size"):
            retrieval_accuracy(np.eye(4), np.eye(4), 1)
        with pytest.raises(ValueError, match="text_embeds contain NaN"):
            retrieval_accuracy(np.eye(2), np.full((2, 2), NAN), 2)


class TestCollapse:
    def test_by_hand(self):
        assert collapse_distance([[0, 0], [3, 4], [1, 1]]) == pytest.approx(5)

    def test_against_a_plain_loop(self):
        x = np.random.default_rng(0).normal(size=(40, 7)) + 100
        expected = max(math.dist(a, b) for a in x for b in x)
        assert collapse_distance(x) == pytest.approx(expected, rel=1e-12)

    def test_a_collapse_far_from_the_origin_is_still_seen(self):
        x = np.full((5, 3), 1000.0)
        x[2, 0] += 1e-9
        assert collapse_distance(x) == pytest.approx(x[2, 0] - 1000.0, rel=1e-12)

    def test_boundaries(self):
        assert collapse_distance(np.full((9, 4), 0.1)) == 0
        assert collapse_distance([[1.0, 2.0]]) == 0
        assert collapse_distance(np.zeros((0, 4))) is None
        with pytest.raises(ValueError, match=r"\(n, d\)"):
            collapse_distance([1.0, 2.0])
        with pytest.raises(ValueError, match="NaN"):
            collapse_distance([[NAN, 1.0]])


def test_mean_of_present():
    assert mean_of_present([1.0, None, NAN, 2.0]) == 1.5
    assert mean_of_present([0.0]) == 0.0
    assert mean_of_present([]) is None
    assert mean_of_present([None, NAN]) is None


class TestEvaluatePredictions:
    # Four rows: 0 and 1 have both, 2 has audio alone, 3 has text alone.
    references = {
        "emotion": np.array([0, 1, 1, -100]),
        "sentiment": np.array([0, 1, 2, 2]),
        "valence": np.array([1.0, 2.0, 4.0, NAN]),
        "arousal": np.full(4, NAN),
    }

    @staticmethod
    def predict(rows, emotion, sentiment, valence):
        out = {"emotion": np.full((4, 2), NAN), "sentiment": np.full((4, 3), NAN), "valence": np.full(4, NAN)}
        out["emotion"][rows] = one_hot(emotion, 2)
        out["sentiment"][rows] = one_hot(sentiment, 3)
        out["valence"][rows] = valence
        out["arousal"] = np.where(np.isnan(out["valence"]), NAN, 1.0)
        return out

    def predictions(self):
        return {
            "audio": self.predict([0, 1, 2], [0, 1, 0], [0, 1, 0], [1.0, 2.0, 3.0]),
            "text": self.predict([0, 1, 3], [1, 1, 1], [0, 0, 2], [1.0, 2.0, 3.0]),
            "audio_text": self.predict([0, 1], [0, 1], [0, 1], [5.0, 5.0]),
        }

    def test_figures_per_combination(self):
        results = evaluate_predictions(self.predictions(), self.references, TASKS)
        assert results == {
            "audio": {
                "n": 3,
                "labelled": {"emotion": 3, "sentiment": 3, "valence": 3},
                "ua": pytest.approx((1 + 1 / 2) / 2),
                "macro_f1": pytest.approx(2 / 3),
                "sentiment_ua": pytest.approx(2 / 3),
                "valence_ccc": pytest.approx(6 / 7),
            },
            "text": {
                "n": 3,  # row 3 has no emotion and no valence label, but is a row
                "labelled": {"emotion": 2, "sentiment": 3, "valence": 2},
                "ua": pytest.approx(1 / 2),
                "macro_f1": pytest.approx((0 + 2 / 3) / 2),
                "sentiment_ua": pytest.approx(2 / 3),
                "valence_ccc": pytest.approx(1),
            },
            "audio_text": {
                "n": 2,
                "labelled": {"emotion": 2, "sentiment": 2, "valence": 2},
                "ua": 1.0,
                "macro_f1": 1.0,
                "sentiment_ua": 1.0,
                "valence_ccc": 0.0,
            },
        }

    def test_row_order_does_not_matter(self):
        order = [2, 0, 3, 1]
        shuffled = {c: {t: a[order] for t, a in p.items()} for c, p in self.predictions().items()}
        references = {task: array[order] for task, array in self.references.items()}
        expected = evaluate_predictions(self.predictions(), self.references, TASKS)
        results = evaluate_predictions(shuffled, references, TASKS)
        assert flatten(results) == pytest.approx(flatten(expected))

    def test_a_combination_without_rows_is_absent(self):
        predictions = {
            "audio": self.predict([0, 1], [0, 1], [0, 1], [1.0, 2.0]),
            "text": self.predict([], [], [], []),
            "audio_text": {},
        }
        assert list(evaluate_predictions(predictions, self.references, TASKS)) == ["audio"]

    def test_empty_split(self):
        predictions = {"audio": {"emotion": np.zeros((0, 4)), "valence": np.zeros(0)}}
        assert evaluate_predictions(predictions, {"emotion": np.zeros(0, int), "valence": np.zeros(0)}, TASKS) == {}
        assert evaluate_predictions({}, {}, TASKS) == {}

    def test_nothing_labelled_leaves_the_count_alone(self):
        references = {"emotion": np.full(4, -100), "sentiment": np.full(4, -100), "valence": np.full(4, NAN)}
        predictions = {"audio": self.predict([0, 1, 2, 3], [0] * 4, [0] * 4, [1.0, 2.0, 3.0, 4.0])}
        results = evaluate_predictions(predictions, references, TASKS)
        assert results == {"audio": {"n": 4}}
        assert score(results) is None
        assert flatten(results) == {}

    def test_a_task_without_references_or_predictions_is_absent(self):
        predictions = {"audio": {"valence": np.array([1.0, 2.0, 3.0])}}
        references = {"valence": np.array([1.0, 2.0, 4.0]), "emotion": np.array([0, 1, 0])}
        assert evaluate_predictions(predictions, references, TASKS) == {
            "audio": {"n": 3, "labelled": {"valence": 3}, "valence_ccc": pytest.approx(6 / 7)}
        }
        assert evaluate_predictions(predictions, {}, TASKS) == {"audio": {"n": 3}}

    def test_bad_input_is_refused(self):
        two = np.array([1.0, 2.0])
        with pytest.raises(ValueError, match="unknown tasks .'joy'."):
            evaluate_predictions({"audio": {"joy": two}}, {}, TASKS)
        with pytest.raises(ValueError, match="differ in length"):
            evaluate_predictions({"audio": {"valence": two}}, {"valence": np.zeros(3)}, TASKS)
        with pytest.raises(ValueError, match=r"must be \(n, classes\)"):
            evaluate_predictions({"audio": {"emotion": two}}, {}, TASKS)
        with pytest.raises(ValueError, match="class 4"):
            evaluate_predictions({"audio": {"emotion": np.eye(4)}}, {"emotion": np.array([0, 1, 2, 4])}, TASKS)
        with pytest.raises(ValueError, match="'valence': 1"):  # NaN in one task alone: not absent, broken
            evaluate_predictions({"audio": {"emotion": np.eye(2), "valence": np.array([1.0, NAN])}}, {}, TASKS)


RESULTS = {
    "audio": {"n": 3, "ua": 0.5, "macro_f1": 0.9, "sentiment_ua": 0.9, "valence_ccc": -0.1},
    "text": {"n": 2, "per_class_recall": {"anger": 1.0}, "confusion_matrix": {"labels": ["anger"], "rows": [[2]]}},
    "audio_text": {"n": 2, "ua": 0.8},
    "retrieval": {"n": 32, "audio_to_text": 0.25, "text_to_audio": 0.75},
    "collapse": {"audio": {"input": 2.0, "output": 30.0}},
}


def test_score_is_the_mean_of_ua_and_ccc():
    assert score(RESULTS) == pytest.approx((0.5 - 0.1 + 0.8) / 3)
    assert score({}) is None


def test_flatten_gives_the_names_of_the_training_log():
    assert flatten(RESULTS) == {
        "audio_ua": 0.5,
        "audio_macro_f1": 0.9,
        "audio_sentiment_ua": 0.9,
        "audio_valence_ccc": -0.1,
        "audio_text_ua": 0.8,
        "retrieval_audio_to_text": 0.25,
        "retrieval_text_to_audio": 0.75,
        "collapse_audio_input": 2.0,
        "collapse_audio_output": 30.0,
    }


class TestEvaluateMetrics:
    """The `evaluate.Metric` classes give what the functions give."""

    @pytest.fixture
    def module(self):
        import modeling_mmer.evaluation.evaluate_metrics as module

        return module

    def test_compute(self, module, tmp_path):
        ua = module.UnweightedAccuracy(cache_dir=str(tmp_path))
        assert ua.compute(predictions=PREDICTIONS, references=REFERENCES) == {"ua": pytest.approx(0.5)}
        f1 = module.MacroF1(cache_dir=str(tmp_path))
        expected = (4 / 6 + 2 / 4) / 3
        assert f1.compute(predictions=PREDICTIONS, references=REFERENCES) == {"macro_f1": pytest.approx(expected)}
        ccc_metric = module.CCC(cache_dir=str(tmp_path))
        result = ccc_metric.compute(predictions=np.array([1.0, 2.0, 3.0, 9.0]), references=[1.0, 2.0, 4.0, NAN])
        assert result == {"ccc": pytest.approx(6 / 7)}

    def test_add_batch_pools_before_it_measures(self, module, tmp_path):
        # The CCC of each batch alone is 0 (one constant side); that of all four rows is not.
        metric = module.CCC(cache_dir=str(tmp_path))
        metric.add_batch(predictions=[1.0, 2.0], references=[1.0, 1.0])
        metric.add_batch(predictions=[3.0, 4.0], references=[4.0, 4.0])
        # means 2.5, cov 1.5, variances 1.25 and 2.25
        assert metric.compute() == {"ccc": pytest.approx(3 / 3.5)}
        assert metric.compute(predictions=[1, 2, 3], references=[1, 2, 4]) == {
            "ccc": pytest.approx(6 / 7)
        }  # starts anew

    def test_embeddings(self, module, tmp_path):
        eye = np.eye(8)
        retrieval = module.RetrievalAccuracy(cache_dir=str(tmp_path))
        result = retrieval.compute(predictions=eye, references=eye[[1, 0, 2, 3, 4, 5, 6, 7]], group_size=8)
        assert result == {"audio_to_text": 0.75, "text_to_audio": 0.75}
        collapse = module.CollapseDistance(cache_dir=str(tmp_path))
        result = collapse.compute(predictions=[[[0.0, 0.0], [3.0, 4.0]], [[1.0, 1.0]], [[0, 0], [0, 1], [0, -3]]])
        assert result == {"collapse": pytest.approx((5 + 0 + 4) / 3)}

    @pytest.mark.parametrize("name", ["UnweightedAccuracy", "MacroF1", "CCC", "RetrievalAccuracy"])
    def test_nothing_measured_is_an_empty_dict(self, module, tmp_path, name):
        assert getattr(module, name)(cache_dir=str(tmp_path)).compute(predictions=[], references=[]) == {}


def test_the_functions_do_not_import_evaluate():
    code = (
        "import sys, modeling_mmer.evaluation.metrics\n"
        "print(sorted({'evaluate', 'datasets', 'torch', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert result.stdout.strip() == "[]"
