import numpy as np
import pytest

from fedinv.studies.duel import detection

NOTHING = -np.inf


def of_one_training(scores):
    return detection.Honest(scores, np.zeros(len(scores), np.int64))


def test_a_threshold_leaves_as_many_honest_messages_above_it_as_the_rate_allows():
    honest = np.arange(200.0)[:, None]
    one = detection.panel([0], of_one_training(honest), 0.01)
    assert one.thresholds == (197.0,)
    assert one.flags(honest).sum() == 2
    assert detection.panel([0], of_one_training(np.full((200, 1), 3.0)), 0.01).flags(
        np.array([[3.0], [3.1]])
    ).tolist() == [False, True]


def test_a_rate_that_too_few_honest_messages_could_show_is_not_stated():
    assert detection.panel([0], of_one_training(np.arange(999.0)[:, None]), 0.001) is None
    assert detection.panel([0], of_one_training(np.arange(1000.0)[:, None]), 0.001) is not None
    assert detection.best_panel(of_one_training(np.arange(99.0)[:, None]), {"x": np.ones((3, 1))}, 0.01) is None


def test_a_detector_without_any_honest_score_is_in_no_panel():
    honest = np.stack([np.full(200, NOTHING), np.arange(200.0)], 1)
    assert detection.panel([0], of_one_training(honest), 0.01) is None
    best = detection.best_panel(of_one_training(honest), {"x": np.array([[5.0, 500.0]])}, 0.01)
    assert best.members == (1,)


def test_detectors_together_share_the_false_alarms():
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(1000, 3))
    both = detection.panel([0, 2], of_one_training(honest), 0.01)
    assert 5 <= both.flags(honest).sum() <= 10
    alone = [detection.panel([at], of_one_training(honest), 0.01).thresholds[0] for at in (0, 2)]
    assert both.thresholds[0] > alone[0]
    assert both.thresholds[1] > alone[1]


def test_the_best_combination_sees_what_single_detectors_miss_and_has_no_member_more():
    rng = np.random.default_rng(1)
    honest = rng.normal(size=(1000, 4))
    one, other = rng.normal(size=(50, 4)), rng.normal(size=(50, 4))
    one[:, 1] += 50
    other[:, 3] += 50
    hidden = rng.normal(size=(50, 4)) - 9  # which no detector sees: no reason to prefer any
    best = detection.best_panel(of_one_training(honest), {"one": one, "other": other, "hidden": hidden}, 0.01)
    assert best.members == (1, 3)
    assert best.flags(one).all()
    assert best.flags(other).all()


def test_what_had_nothing_to_look_at_is_not_flagged_and_ranks_lowest():
    honest = np.concatenate([np.full(20, NOTHING), np.arange(180.0)])[:, None]
    one = detection.panel([0], of_one_training(honest), 0.01)
    assert not one.flags(np.array([[NOTHING]])).any()
    assert detection.auc(np.array([NOTHING]), honest[:, 0]) == pytest.approx(0.05)
    assert detection.auc(np.array([999.0]), honest[:, 0]) == 1
    assert detection.auc(np.array([]), honest[:, 0]) is None


def test_a_share_has_its_exact_interval():
    found = detection.share(np.array([True] * 20))
    assert (found.value, found.count) == (1, 20)
    assert found.ci95[0] == pytest.approx(0.8316, abs=1e-3)


def alike(trainings, seed, spread=0.2):
    """Messages, 100 a training, that differ much between trainings and hardly within one."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(0, spread, size=(trainings, 1))
    scores = np.exp(middle + rng.normal(0, 0.01, size=(trainings, 100)))
    return detection.Honest(scores.reshape(-1, 1), np.repeat(np.arange(trainings), 100))


def test_thresholds_hold_for_other_trainings_whose_messages_are_alike():
    """Ten trainings of 100 messages are ten draws, not 1,000: above their largest lies one other training of eleven."""
    taken, above = [], []
    for seed in range(40):
        honest, others = alike(10, seed), alike(50, 1000 + seed)
        taken.append(detection.panel([0], honest, 0.01).flags(others.scores).mean())
        alone = detection.Honest(honest.scores, np.zeros(1000, np.int64))  # as if messages were draws
        above.append(detection.panel([0], alone, 0.01).flags(others.scores).mean())
    assert np.mean(above) > 0.05
    assert np.mean(taken) < 0.02


def test_the_bound_is_that_of_one_more_training_and_needs_some():
    honest = alike(10, 0)
    bounds = [detection.beyond(honest.scores[:, 0], honest.trainings, rate) for rate in (0.01, 0.001)]
    assert honest.scores.max() < bounds[0] < bounds[1]
    few = alike(detection.TRAININGS - 1, 0)
    assert detection.beyond(few.scores[:, 0], few.trainings, 0.01) == -np.inf
    same = detection.Honest(np.zeros((1000, 1)), honest.trainings)
    assert detection.panel([0], same, 0.001).thresholds == (0.0,), "what never differs flags all that does"


def test_trainings_in_which_a_detector_had_nothing_to_look_at_do_not_count():
    honest = alike(10, 0)
    silent = honest.scores[:, 0].copy()
    silent[honest.trainings >= 6] = NOTHING
    first = honest.trainings < 6
    wanted = detection.beyond(honest.scores[first, 0], honest.trainings[first], 0.01)
    assert detection.beyond(silent, honest.trainings, 0.01) == pytest.approx(wanted)


def test_the_bound_holds_for_largest_values_at_the_rate_that_was_asked_for():
    """Largest of many messages with an exponential tail, ten trainings, and one more: 1 % and 0.1 % of 20,000 draws."""
    rng = np.random.default_rng(7)
    trainings, above = np.arange(10), {0.01: 0, 0.001: 0}
    for _ in range(200):
        scores = rng.gumbel(5, 0.3, size=10)
        others = rng.gumbel(5, 0.3, size=100)
        for rate in above:
            above[rate] += int((others > detection.beyond(scores, trainings, rate)).sum())
    assert 100 < above[0.01] < 330
    assert above[0.001] < 60


def test_a_bound_beyond_the_highest_score_there_can_be_leaves_that_score_above_it():
    """Nothing is flagged above it, so that weights sent again, which score 1, would never be."""
    scores, trainings = np.array([0.5, 0.8, 0.55, 0.7, 0.6, 0.75, 0.65, 0.5, 0.7, 0.6]), np.arange(10)
    assert detection.beyond(scores, trainings, 0.001) > 1
    assert 0.8 < detection.beyond(scores, trainings, 0.001, highest=1.0) < 1
    always = np.ones(10)
    assert detection.beyond(always, trainings, 0.001, highest=1.0) == 1
    honest = detection.Honest(np.repeat(scores, 100)[:, None], np.repeat(trainings, 100), (1.0,))
    assert detection.panel([0], honest, 0.001).flags(np.array([[1.0]])).all()
