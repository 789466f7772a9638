from concurrent.futures.process import BrokenProcessPool

import pytest

from fedinv.errors import RunError
from fedinv.studies.workers import Workers, pool


def test_a_process_that_ends_is_named_with_both_of_its_causes():
    said = 'audit was killed: try fewer --jobs; .* below if __name__ == "__main__":'
    with pytest.raises(RunError, match=said), pool(Workers(1), 1, "audit"):
        raise BrokenProcessPool
