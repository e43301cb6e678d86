"""docs/protocol.md says what works."""

import pytest

from tests.interop.protocol_table import DOCUMENT, LOADED, ROWS, VERSIONS, Row, outcome, written


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section}-{row.what}")
def test_a_row_of_the_table_is_so(row: Row) -> None:
    assert written()[row.section, row.what][LOADED] == outcome(row), "run python -m tests.interop.protocol_table"


def test_the_table_has_the_rows_that_are_tried_and_all_were_tried_everywhere() -> None:
    found = written()
    found = {key: value for key, value in found.items() if key[1] not in {"what", "---"}}
    assert list(found) == [(row.section, row.what) for row in ROWS]
    assert all(columns[version] != "not tried" for columns in found.values() for version in VERSIONS)
    assert DOCUMENT.read_text(encoding="utf-8").count("works") > len(ROWS)
