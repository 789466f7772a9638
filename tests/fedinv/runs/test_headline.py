from types import SimpleNamespace

import pytest

from fedinv.federation.agreement import TrainingTable
from fedinv.results.run import (
    AttackResult,
    ClientRate,
    Control,
    Images,
    Mean,
    Privacy,
    Rate,
    Undefended,
    Utility,
    VettedRound,
)
from fedinv.results.wording import epsilon_text, percent
from fedinv.runs.headline import headline

NONE = Privacy(unit=None, epsilon=None, delta=None, accountant=None, note="")
SPENT = Privacy(unit="example", epsilon=6.81, delta=1e-5, accountant="PLD", note="")
UTILITY = Utility(metric="auc", value=0.842, ci95=(0.8, 0.9), count=400)
PAID = UTILITY.model_copy(update={"undefended": Undefended(value=0.863, ci95=(0.8, 0.9))})


def declared(defenses=(), attacks=("any",), rounds=(1,), **training):
    federation = SimpleNamespace(clients=20, participants=20)
    watch = SimpleNamespace(rounds=rounds, clients=4, choose="first")
    return SimpleNamespace(
        federation=federation,
        attacker=SimpleNamespace(watch=watch),
        defenses=defenses,
        attacks=attacks,
        training=TrainingTable.model_validate({"algorithm": "fedavg", **training}),
    )


def rate(hits, count, prior=0.0, spread=0.01):
    value = hits / count
    return Rate(value=value, count=count, ci95=(max(0, value - spread), min(1, value + spread)), prior=prior)


def attack(recovered=0, fields=0.41, traced=None, records=64, target="client", guess=0.41, observations=4, claimed=1):
    return AttackResult(
        kind="any",
        variant="static",
        target=target,
        parameters={},
        observations=observations,
        records=records,
        claimed=claimed,
        seconds=1,
        field_accuracy=Rate(value=fields, count=1000, ci95=(fields - 0.01, fields + 0.01), prior=guess),
        recovered=rate(recovered, records),
        exact=rate(0, records),
        reidentified=None if traced is None else rate(traced, records),
        chance=None if traced is None else 1 / 2000,
        outside_register=None if traced is None else "a register of all 2000 people with age and sex",
    )


def test_leaked():
    said = headline(declared(), [attack(63, 0.99, 63)], NONE, UTILITY, "patient records", "hospitals")
    assert said == (
        "From one update of each of 4 of 20 hospitals, the server rebuilt 63 of 64 patient records in full; a "
        "register of all 2000 people with age and sex then names the right person for 98.4 % of them; a guesser "
        "without the updates rebuilds none."
    )


@pytest.mark.parametrize(
    ("verified", "says"),
    [
        (None, "rebuilt 63 of 64 records in full; a guesser"),
        (64, "rebuilt 63 of 64 records in full; a guesser"),
        (40, "in full; it can itself verify 40 of the 64 records that it claims; a guesser"),
        (0, "in full; which of the records it claims are right it cannot tell itself; a guesser"),
    ],
)
def test_what_the_server_cannot_verify_itself_is_said(verified, says):
    found = attack(63, 0.99, claimed=64).model_copy(update={"verified": verified})
    assert says in headline(declared(), [found], NONE, UTILITY)
    nothing = attack(0, claimed=64).model_copy(update={"verified": 0})
    assert "claims" not in headline(declared(), [nothing], NONE, UTILITY)


def test_the_worst_client_is_named_where_the_rate_over_all_hides_it():
    clients = [
        ClientRate(client=client, records=records, recovered=got, fields=10, right=got, guessed=0)
        for client, records, got in ((0, 82, 0), (3, 19, 19))
    ]
    one = attack(19, records=101, observations=2).model_copy(update={"clients": clients, "worst": clients[1]})
    said = headline(declared(), [one], NONE, UTILITY, clients="hospitals")
    assert "rebuilt 19 of 101 records in full (19 of 19 at the worst of these hospitals, client 3);" in said
    summed = one.model_copy(update={"clients": [], "target": "sum", "observations": 1})
    said = headline(declared(), [summed], NONE, UTILITY, clients="hospitals")
    assert "(19 of 19 at the worst of these hospitals, client 3)" in said
    alike = one.model_copy(update={"recovered": rate(100, 101)})
    assert "worst" not in headline(declared(), [alike], NONE, UTILITY, clients="hospitals")


def test_one_client_reads_right():
    one = attack(8, 0.99, records=8, observations=1)
    assert headline(declared(), [one], NONE, UTILITY).startswith("From one update of one of 20 clients, the server")
    alone = declared()
    alone.federation.clients = 1
    assert headline(alone, [one], NONE, UTILITY).startswith("From the only client's update, the server rebuilt 8 of 8")


def test_defended():
    said = headline(declared(("dp",)), [attack(0, 0.41, 0)], SPENT, PAID)
    assert said == (
        "From one update of each of 4 of 20 clients, the server rebuilt none of 64 records in full; field by field it "
        "knows no more than a guesser (41.0 % right, guess 41.0 %); guaranteed is epsilon 6.9 per record; the model "
        "loses 2.1 points of AUC."
    )


def test_each_number_is_the_worst_over_all_attacks():
    attacks = [attack(0, 0.41, 0), attack(1, 0.42, 2), attack(0, 0.77, 40), attack(0, 0.41, 0, claimed=0)]
    said = headline(declared(), attacks, NONE, UTILITY)
    assert "rebuilt 1 of 64 records in full; a register of all 2000 people with age and sex then names the" in said
    assert "right person for 62.5 % of them" in said
    assert "knows more than a guesser (77.0 % right, guess 41.0 %)" in said
    assert headline(declared(), attacks[::-1], NONE, UTILITY) == said


def test_names_count_though_no_record_is_whole():
    said = headline(declared(), [attack(0, 0.41, 30)], NONE, UTILITY)
    assert "the right person for 46.9 % of them" in said


def test_names_no_better_than_chance_are_not_a_finding():
    assert "register" not in headline(declared(), [attack(0, 0.41, 0)], NONE, UTILITY)


def test_a_lead_within_the_interval_is_not_called_knowledge():
    assert "not measurably more" in headline(declared(), [attack(fields=0.415)], NONE, UTILITY)


def test_the_sum_of_secure_aggregation():
    said = headline(declared(("masking",)), [attack(records=320, target="sum", observations=1)], NONE, PAID)
    assert said.startswith("From the sum of the updates of 20 clients, the server rebuilt none of 320 records in full;")
    assert "no formal guarantee" in said


def test_nothing_read_behind_an_optimizer_is_no_guarantee():
    said = headline(declared(optimizer="adam"), [attack(0)], NONE, UTILITY)
    assert "attacks that need sums of gradients cannot read several steps of adam, which is no guarantee" in said
    for others in ({}, {"optimizer": "adam", "algorithm": "fedsgd"}):
        assert "no guarantee" not in headline(declared(**others), [attack(0)], NONE, UTILITY)


def test_several_rounds():
    said = headline(declared(rounds=(1, 2, 5)), [attack(observations=12)], NONE, UTILITY)
    assert said.startswith("From 12 updates that clients sent in 3 rounds,")


@pytest.mark.parametrize(("attacks", "why"), [((), "No attack was run"), (("any",), "No attack had an update")])
def test_no_attacks(attacks, why):
    said = headline(declared(attacks=attacks), [], NONE, UTILITY)
    assert said.startswith(why)
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0 %"), (1e-5, "<0.1 %"), (0.41, "41.0 %"), (0.9999, ">99.9 %"), (1, "100.0 %")]
)
def test_percent_never_rounds_to_nothing_or_all(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(("epsilon", "text"), [(6.81, "6.9"), (6.9, "6.9"), (0.501, "0.51"), (153.02, "153.1")])
def test_epsilon_is_rounded_up(epsilon, text):
    assert epsilon_text(epsilon) == text


def test_a_defense_is_believed_only_after_the_undefended_run_leaked():
    def control(recovered):
        return Control(field_accuracy=rate(900, 1000), recovered=rate(recovered, 64))

    def said(recovered):
        judged = attack(0, 0.41, 0).model_copy(update={"undefended": control(recovered)})
        return headline(declared(("dp",)), [judged, attack(0)], SPENT, PAID)

    assert "; without the defenses it rebuilds 63 of 64; guaranteed is" in said(63)
    assert "without the defenses it rebuilds none either, so no defense has proved itself" in said(0)


def test_images():
    """Their likeness is said where the attack drew any."""
    psnr = Mean(value=32.84, count=64, ci95=(30, 35), prior=10.12)
    drawn = attack(40, 0.97).model_copy(update={"images": Images(psnr=psnr, ssim=None)})
    said = headline(declared(), [drawn], NONE, UTILITY, "digit images")
    assert said == (
        "From one update of each of 4 of 20 clients, the server rebuilt 40 of 64 digit images in full; its images "
        "have a PSNR of 32.8 dB to the true ones, a guesser's 10.1 dB; a guesser without the updates rebuilds none."
    )
    silent = attack(0, 0.41, claimed=0).model_copy(update={"images": drawn.images})
    said = headline(declared(), [silent], NONE, UTILITY, "digit images")
    assert "PSNR" not in said
    assert "pixel by pixel it knows no more than a guesser" in said


@pytest.mark.parametrize(
    ("flagged", "attacks", "said"),
    [
        (20, [], "All 20 hospitals refused the weights of round 1, so that no attack had an update to attack."),
        (
            3,
            [],
            "No attack had an update to attack, so nothing is known of what the server would learn; 3 of 20 hospitals",
        ),
        (
            3,
            [attack(63, 0.99)],
            "a guesser without the updates rebuilds none; 3 of 20 hospitals refused the weights of",
        ),
    ],
)
def test_who_refused_the_weights_is_said(flagged, attacks, said):
    seen = [
        VettedRound(detector="x", action=action, round=round_, looked=20, flagged=count, highest=9.0)
        for action, round_, count in (("refuse", 1, flagged), ("report", 1, 20), ("refuse", 2, 20), ("refuse", 1, 1))
    ]
    assert said in headline(declared(), attacks, NONE, UTILITY, "records", "hospitals", vetting=seen)
    assert "refused" not in headline(declared(), attacks, NONE, UTILITY, "records", "hospitals", vetting=seen[1:3])
