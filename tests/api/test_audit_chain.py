import io
from itertools import chain, zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.audit import LINE_LIMIT, SEALED_LIMIT, TornLine, bounded_lines, read_record, seal, verify_chain
from byok_api.audit.chain import CHAINS_LIMIT, FINDINGS_LIMIT
from tests.support.trails import REFUSED, SIGNED, TIME, found, rehashed, trail, verdict

LINES, HEAD = trail(8)
CONTINUED = LINES + trail(7, "signer-b", predecessor=HEAD)[0]
TEXT = b"".join(CONTINUED)
LAST = len(CONTINUED)
NEXT = len(LINES) + 1


def fragment(size: int = 40) -> bytes:
    return LINES[1][:size]


def test_an_intact_trail_is_counted() -> None:
    report = verify_chain(CONTINUED)
    assert (report.intact, report.lines, report.records, report.torn) == (True, LAST, LAST, None)
    assert report.kinds == {"chain-start": 2, "intent": 6, "outcome": 5, "refusal": 2, "checkpoint": 2}
    assert [(c.first_line, c.last_line, str(c.predecessor)) for c in report.chains] == [
        (1, 9, "None"),
        (10, 17, "signer-a/8"),
    ]
    assert report.chains[0].head == HEAD
    assert (report.intent_count, report.unknown) == (1, 3)


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_found_on_its_line(position: int, flip: int) -> None:
    altered = TEXT[:position] + bytes([TEXT[position] ^ flip]) + TEXT[position + 1 :]
    findings = verdict(list(bounded_lines(io.BytesIO(altered))))
    assert findings[0][1] == TEXT[:position].count(b"\n") + 1


@pytest.mark.parametrize("line", range(LAST))
def test_a_flipped_digit_is_one_finding_on_one_line(line: int) -> None:
    altered = CONTINUED[line].replace(b'"time":"2026', b'"time":"2027')
    assert verdict([*CONTINUED[:line], altered, *CONTINUED[line + 1 :]]) == [("Altered", line + 1)]


@given(st.integers(0, LAST - 2), st.integers(1, 3))
def test_dropped_lines_are_found_where_they_were(first: int, count: int) -> None:
    count = min(count, LAST - 1 - first)
    findings = verdict(CONTINUED[:first] + CONTINUED[first + count :])
    assert findings[0][1] == first + 1
    assert findings[0][0] in {"Missing", "ChainStartMissing", "PredecessorMissing"}


@given(st.integers(0, LAST - 1), st.integers(0, LAST))
def test_a_repeated_line_is_found_where_it_is_repeated(line: int, place: int) -> None:
    findings = verdict([*CONTINUED[:place], CONTINUED[line], *CONTINUED[place:]])
    if place > line:
        assert findings == [("OutOfOrder", place + 1)]
    elif place < line:
        assert findings[0][1] == place + 1
    else:
        assert findings == [("OutOfOrder", place + 2)]


@given(st.permutations(range(LAST)))
def test_reordered_lines_are_found_where_the_order_breaks(order: list[int]) -> None:
    findings = verdict([CONTINUED[line] for line in order])
    breaks = [place for place, line in enumerate(order) if place != line]
    assert [finding[1] for finding in findings[:1]] == [place + 1 for place in breaks[:1]]


def test_a_displaced_run_is_few_findings_however_long_it_is() -> None:
    lines, _ = trail(100)
    moved = [*lines[:10], lines[90], *lines[10:90], *lines[91:]]
    assert verdict(moved) == [("Missing", 11), ("OutOfOrder", 12)]


def test_a_record_made_anew_does_not_link() -> None:
    before, _ = trail(1)
    forged, _ = seal(REFUSED, read_record(before[-1][:-1]).head, time=TIME)
    assert verdict([*LINES[:2], forged, *LINES[3:]]) == [("LinkBroken", 4)]


def test_damage_hides_no_loss_further_down() -> None:
    broken = LINES[1][:50] + b"\n" + LINES[1][50:]
    assert verdict([LINES[0], *broken.splitlines(keepends=True), *LINES[2:4], LINES[5]]) == [
        ("NotARecord", 2),
        ("Altered", 3),
        ("Missing", 6),
    ]


def test_an_unknown_schema_is_named() -> None:
    assert verdict([*LINES, rehashed('{"schema":2,"writer":"signer-z"') + b"\n"]) == [("UnknownSchema", NEXT)]


def test_an_overlong_line_is_one_finding_and_takes_no_memory() -> None:
    stream = io.BytesIO(LINES[0] + b"x" * (3 * LINE_LIMIT) + b"\n" + b"".join(LINES[1:]))
    lines = list(bounded_lines(stream))
    assert max(map(len, lines)) == LINE_LIMIT + 1
    assert verdict(lines) == [("LineTooLong", 2)]


@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, 2 * LINE_LIMIT + 2])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_lines_of_every_length_are_counted_once(size: int, end: bytes) -> None:
    assert len(list(bounded_lines(io.BytesIO(b"x" * size + end + LINES[0])))) == (2 if end else 1)


@pytest.mark.parametrize("size", [1, 5, 12, 300])
def test_a_torn_last_line_is_no_tampering(size: int) -> None:
    report = verify_chain([*LINES, fragment(size)])
    assert (report.intact, report.torn, report.records) == (True, len(LINES) + 1, len(LINES))


def test_a_record_that_only_lacks_its_newline_is_a_record() -> None:
    report = verify_chain([*LINES[:-1], LINES[-1][:-1]])
    assert (report.intact, report.torn, report.records) == (True, None, len(LINES))


@pytest.mark.parametrize("last", [b"\x00" * 100, b"hello", LINES[3][:-1] + b"}", fragment() + b"\n"])
def test_another_bad_last_line_is_a_finding(last: bytes) -> None:
    report = verify_chain([*LINES, last])
    assert (report.torn, found(report)[0][1]) == (None, len(LINES) + 1)


@pytest.mark.parametrize("count", [1, 2, SEALED_LIMIT])
def test_torn_lines_sealed_by_the_next_chain_start_are_no_findings(count: int) -> None:
    torn = tuple(TornLine.of(fragment(20 + number)) for number in range(count))
    fragments = [fragment(20 + number) + b"\n" for number in range(count)]
    report = verify_chain([*LINES, *fragments, *trail(2, "signer-b", predecessor=HEAD, torn=torn)[0]])
    assert (report.intact, report.sealed) == (True, count)


def test_a_sealed_line_that_was_altered_or_removed_is_found() -> None:
    after, _ = trail(1, "signer-b", predecessor=HEAD, torn=(TornLine.of(fragment()),))
    assert verdict([*LINES, fragment(41) + b"\n", *after]) == [
        ("NotARecord", NEXT),
        ("TornLineMissing", NEXT + 1),
    ]
    assert verdict([*LINES, *after]) == [("TornLineMissing", NEXT)]


def test_a_torn_line_that_nothing_seals_is_found() -> None:
    assert verdict([*LINES, fragment() + b"\n", *CONTINUED[len(LINES) :]]) == [("NotARecord", NEXT)]


def test_chains_of_several_writers_may_be_mixed() -> None:
    others, _ = trail(9, "signer-c")
    mixed = [line for line in chain.from_iterable(zip_longest(LINES, others)) if line]
    assert verdict(mixed) == []
    assert verdict(mixed[:4] + mixed[5:]) == [("Missing", 6)]


def test_a_chain_goes_on_only_where_its_predecessor_ended() -> None:
    early = read_record(LINES[3][:-1]).head
    after, _ = trail(1, "signer-b", predecessor=early)
    assert verdict(LINES + after) == [("OutOfOrder", NEXT)]
    assert verdict(LINES[:3] + after) == [("Missing", 4)]
    assert verdict(after) == [("PredecessorMissing", 1)]


def test_a_chain_does_not_go_on_after_its_successor_began() -> None:
    line, _ = seal(SIGNED, HEAD, time=TIME)
    assert verdict([*CONTINUED, line]) == [("OutOfOrder", LAST + 1)]
    assert verdict([*CONTINUED, trail(0, "signer-c", predecessor=HEAD)[0][0]]) == [("OutOfOrder", LAST + 1)]


def test_an_empty_trail_is_a_finding() -> None:
    assert verdict([]) == [("ChainStartMissing", 1)]


def test_findings_and_chains_are_bounded_and_counted() -> None:
    report = verify_chain([*LINES, *[b"junk\n"] * (FINDINGS_LIMIT + 50)])
    assert (len(report.findings), report.finding_count) == (FINDINGS_LIMIT, FINDINGS_LIMIT + 50)
    starts = (trail(0, f"writer-{number}")[0][0] for number in range(CHAINS_LIMIT + 5))
    assert len(verify_chain(starts).chains) == CHAINS_LIMIT
