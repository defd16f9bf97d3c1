"""The blocks of the documentation that need the local model."""

import pytest

from tests.documentation import Block, blocks, run_python

pytestmark = pytest.mark.local
BLOCKS = [block for block in blocks("python") if block.needs_the_local_model]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_blocks_run_and_print_what_the_page_shows(block: Block) -> None:
    run_python(block)
