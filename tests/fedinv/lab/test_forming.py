import pytest
import torch

from fedinv.errors import RunError
from fedinv.lab import forming as module
from fedinv.lab.forming import MOST_FRAMES, forming

from .conftest import looked_at


def silent(share):
    assert 0 <= share <= 1


@pytest.fixture(scope="module")
def formed(small_look):
    return forming(small_look.folder, silent)


def test_a_search_forms_a_record_step_by_step(formed):
    assert 3 <= len(formed.frames) <= MOST_FRAMES + 1
    shares = [frame.share for frame in formed.frames]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] > 1
    assert formed.frames[0].right < formed.frames[-1].right == 1.0


def test_each_frame_holds_the_same_person_s_fields_beside_the_truth(formed):
    truths = {tuple(cell.true for cell in frame.cells) for frame in formed.frames}
    assert len(truths) == 1
    assert all(cell.true == cell.claimed for cell in formed.frames[-1].cells if cell.right)
    assert formed.who in formed.frames[-1].cells[0].name or "," in formed.who


def test_the_steps_are_the_same_each_time(small_look, formed):
    assert forming(small_look.folder, silent) == formed


def test_where_nothing_is_searched_there_are_no_frames_and_a_reason(tmp_path):
    found = forming(looked_at(tmp_path, defense="clip-noise", strength=1.0).folder, silent)
    assert found.frames == () and "nothing claimed" in found.says


def test_without_an_attack_that_searches_it_says_so(small_look, monkeypatch):
    monkeypatch.setattr(module.plugins, "loaded", lambda group: {})
    with pytest.raises(RunError, match="no attack that searches"):
        forming(small_look.folder, silent)
    assert torch.get_num_threads() == 1


def test_where_no_sum_came_about_nothing_forms_and_a_line_says_so(small_look, monkeypatch):
    monkeypatch.setattr(module, "plans", lambda *_: [Nothing()])
    with pytest.raises(RunError, match="no round came to a sum"):
        forming(small_look.folder, silent)


class Nothing:
    """A plan of an attack on sums where there is none."""

    def observations(self, run):
        return ()
