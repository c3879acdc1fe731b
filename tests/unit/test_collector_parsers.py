# SPDX-License-Identifier: Apache-2.0
"""What the text and JSON parsers read, kept from Katib or mended; vectors of its test suite."""

from __future__ import annotations

import json

import pytest

from tunesmith_api.metrics import Row
from tunesmith_metrics_collector.parsers.json_lines import JsonLinesParser
from tunesmith_metrics_collector.parsers.protocol import VALUES_PER_LINE, Parsed, Parser
from tunesmith_metrics_collector.parsers.text import FilterError, TextParser
from tunesmith_metrics_collector.sources.tail import Block

KATIB_FILTER = r"{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)}"
MOMENT = 1_638_422_847_000_000
"""2021-12-02T05:27:27Z"""


def parse(parser: Parser, *lines: str | bytes) -> Parsed:
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    data = b"".join(line + b"\n" for line in encoded)
    return parser.parse(Block(data, 0, len(data)))


def text(*lines: str | bytes, metrics: tuple[str, ...] = ("loss", "accuracy")) -> Parsed:
    return parse(TextParser(metrics), *lines)


def values(parsed: Parsed) -> list[tuple[str, str]]:
    return [(row.metric, row.value) for row in parsed.rows]


# ---- text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("printed", ["0.8078", "100", "888.333", "-0.4759"])
def test_katib_vectors_that_parse(printed: str) -> None:
    line = f"2021-12-02T05:27:27Z {{metricName: accuracy, metricValue: {printed}}};"
    parsed = parse(TextParser(["accuracy"], [KATIB_FILTER]), line)
    assert parsed.rows == [Row(0, "accuracy", printed, MOMENT)]


@pytest.mark.parametrize("printed", [".333", "-.333", "- 345.333", "888."])
def test_katib_vectors_that_do_not_parse(printed: str) -> None:
    line = f"2021-12-02T05:27:27Z {{metricName: accuracy, metricValue: {printed}}};"
    assert parse(TextParser(["accuracy"], [KATIB_FILTER]), line).rows == []


def test_all_matches_of_a_line_count_in_order() -> None:
    line = "{metricName: loss, metricValue: 3.1} {metricName: accuracy, metricValue: 9.9}"
    parsed = parse(TextParser(["accuracy", "loss"], [KATIB_FILTER]), line)
    assert values(parsed) == [("loss", "3.1"), ("accuracy", "9.9")]


def test_all_filters_apply() -> None:
    filters = [r"([\w-]+)=([0-9.]+)", r"([\w-]+): ([0-9.]+)"]
    parsed = parse(TextParser(["loss", "accuracy"], filters), "loss: 1 accuracy=2")
    assert values(parsed) == [("accuracy", "2"), ("loss", "1")]


@pytest.mark.parametrize(
    "printed",
    ["0.3", "3", "+3", "-0.0", ".5", "1e-3", "1.5E+10", "1e400", "4.9e-324"],
)
def test_the_default_filter_reads_numbers_as_printed(printed: str) -> None:
    assert values(text(f"epoch 1 loss={printed} done")) == [("loss", printed)]


@pytest.mark.parametrize(
    "printed", ["nan", "NaN", "NAN", "inf", "-inf", "+Inf", "Infinity", "-INFINITY"]
)
def test_non_finite_values_are_kept_as_printed(printed: str) -> None:
    assert values(text(f"loss = {printed}, accuracy=1")) == [("loss", printed), ("accuracy", "1")]


@pytest.mark.parametrize("line", ["loss=", "loss= abc", "loss=nano", "loss=information", "loss==1"])
def test_an_empty_value_is_skipped_and_counted(line: str) -> None:
    parsed = text(line)
    assert (parsed.rows, parsed.skipped) == ([], 1)


def test_only_wanted_metrics_are_kept_but_all_names_of_the_line_are_noted() -> None:
    parsed = text("epoch=3 loss=0.5 train-loss=0.4 lr=0.1")
    assert values(parsed) == [("loss", "0.5")]
    assert list(parsed.names) == ["epoch", "loss", "train-loss", "lr"]


def test_a_line_without_a_wanted_name_is_not_looked_at() -> None:
    assert text("epoch=3 lr=0.1").names == {}
    assert TextParser(["loss"]).names(b"epoch=3 lr=0.1") == ["epoch", "lr"]


@pytest.mark.parametrize(
    ("stamp", "time_us"),
    [
        ("2021-12-02T05:27:27Z", MOMENT),
        ("2021-12-02T05:27:27.123456789Z", MOMENT + 123_456),
        ("2021-12-02T06:27:27.5+01:00", MOMENT + 500_000),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("0001-01-01T00:00:00Z", 0),
        ("2021-12-02 05:27:27", 0),
        ("20211202T052727Z", 0),
        ("2021-13-02T05:27:27Z", 0),
        ("2021-12-02T05:27:27", 0),
        ("INFO", 0),
    ],
)
def test_the_first_word_is_the_time_if_it_is_rfc_3339(stamp: str, time_us: int) -> None:
    assert text(f"{stamp} loss=1").rows == [Row(0, "loss", "1", time_us)]


def test_seq_is_the_byte_of_the_line_and_the_place_on_it() -> None:
    parsed = text("é", "loss=1 accuracy=2", "x", "loss=3")
    assert [row.seq for row in parsed.rows] == [3 * 1024, 3 * 1024 + 1, 23 * 1024]


def test_a_progress_bar_is_a_line_each_time() -> None:
    bar = b"epoch 1 loss=3\repoch 1 loss=2\r\nepoch 1 loss=1"
    assert values(text(bar)) == [("loss", "3"), ("loss", "2"), ("loss", "1")]


def test_binary_rubbish_is_harmless_and_values_are_storable() -> None:
    any_bytes = bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"")
    free = TextParser(["loss"], [r"(loss)=(\S+)"])
    assert values(parse(free, any_bytes + b" loss=1\xff\x002 " + any_bytes)) == [
        ("loss", "1\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}2")
    ]


def test_a_value_above_1_kib_and_more_than_1024_values_are_skipped() -> None:
    free = TextParser(["loss"], [r"(loss)=(\S+)"])
    assert values(parse(free, "loss=" + "9" * 1024)) == [("loss", "9" * 1024)]
    assert parse(free, "loss=" + "9" * 1025).skipped == 1
    many = text("loss=1 " * (VALUES_PER_LINE + 5))
    assert (len(many.rows), many.skipped) == (VALUES_PER_LINE, 5)


def test_filters_match_text_not_bytes() -> None:
    parsed = parse(TextParser(["größe"], [r"(\pL+) ist (.)"]), "größe ist ½")
    assert values(parsed) == [("größe", "½")]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(loss)=\d+", "two groups"),
        (r"(loss=(\d+)", "no RE2"),
        (r"(loss)=(?=x)(\d)", "no RE2"),
        (r"(a)(b)" + "x" * 1024, "longer than 1024 bytes"),
        (r"((a?){1000})(b)", "too complex"),
    ],
)
def test_an_unusable_filter_is_named_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason) as caught:
        TextParser(["loss"], [pattern])
    assert caught.value.filter == pattern


def test_a_backtracking_bomb_takes_linear_time() -> None:
    parsed = parse(TextParser(["loss"], [r"(a+)+(b)$"]), b"loss" + b"a" * 60_000)
    assert parsed.rows == []


def test_own_filters_see_the_first_64_kib_of_a_line() -> None:
    own, default = TextParser(["loss"], [r"(loss)=(\d)"]), TextParser(["loss"])
    line = "loss=1" + " " * (64 << 10) + "loss=2"
    assert (values(parse(own, line)), parse(own, line).skipped) == ([("loss", "1")], 1)
    assert values(parse(default, line)) == [("loss", "1"), ("loss", "2")]


# ---- JSON -----------------------------------------------------------------------------------


def json_lines(*lines: str | bytes) -> Parsed:
    return parse(JsonLinesParser(["loss", "accuracy"]), *lines)


def test_a_report_of_the_helper_is_read_exactly() -> None:
    line = (
        '{"timestamp": "2021-12-02T05:27:27.123456Z", "step": 3, "loss": 0.30, "accuracy": "NaN"}'
    )
    moment = MOMENT + 123_456
    assert json_lines(line).rows == [
        Row(0, "loss", "0.30", moment, 3),
        Row(1, "accuracy", "NaN", moment, 3),
    ]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1", "1"),
        ("-0.0", "-0.0"),
        ("1E400", "1E400"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ('"0.8078"', "0.8078"),
        ('"Infinity"', "Infinity"),
        ("9" * 30, "9" * 30),
    ],
)
def test_numbers_and_texts_are_values(written: str, kept: str) -> None:
    assert values(json_lines(f'{{"loss": {written}}}')) == [("loss", kept)]


@pytest.mark.parametrize("bare", ["nan", "NAN", "inf", "-inf", "+Inf", "infinity", "-INFINITY"])
def test_not_finite_numbers_count_however_a_program_writes_them(bare: str) -> None:
    line = f'{{"note": "a: nan, b", "loss": {bare}, "accuracy": 0.5}}'
    assert values(json_lines(line)) == [("loss", bare), ("accuracy", "0.5")]


@pytest.mark.parametrize("written", ["true", "null", "[1]", '{"a": 1}', '""', '" "'])
def test_other_values_of_a_wanted_metric_are_skipped_and_counted(written: str) -> None:
    parsed = json_lines(f'{{"loss": {written}, "accuracy": 1}}')
    assert (values(parsed), parsed.skipped) == ([("accuracy", "1")], 1)


@pytest.mark.parametrize(
    "line",
    [b"{", b"loss=1", b"[1]", b"3", b'{"loss": 1}{"loss": 2}', b"[" * 100_000, b"\xff\x00"],
    ids=["cut", "text", "list", "number", "two", "deep", "binary"],
)
def test_a_bad_line_is_skipped_and_counted_and_the_rest_is_read(line: bytes) -> None:
    parsed = json_lines('{"loss": 1}', line, "", "  ", '{"loss": 2}')
    assert (values(parsed), parsed.skipped) == ([("loss", "1"), ("loss", "2")], 1)


@pytest.mark.parametrize(
    ("stamp", "time_us"),
    [
        ("1638422847", MOMENT),
        ("1638422847.28721", MOMENT + 287_210),
        ("-1.5", -1_500_000),
        ("1e999999999", 0),
        ("-1e999999", 0),
        ("1e-999999999", 0),
        ("NaN", 0),
        ("true", 0),
        ('"1638422847"', MOMENT),
        ('"1638422847.28721"', MOMENT + 287_210),
        ('"1_638_422_847"', 0),
        ('"invalid"', 0),
        ('"2021-12-02T05:27:27Z"', MOMENT),
    ],
)
def test_timestamps_are_rfc_3339_or_unix_seconds_with_a_fraction(stamp: str, time_us: int) -> None:
    line = f'{{"timestamp": {stamp}, "loss": "1"}}'
    assert json_lines(line).rows == [Row(0, "loss", "1", time_us)]


@pytest.mark.parametrize(
    ("written", "step"),
    [("0", 0), ("-4", -4), ("1.5", None), ('"3"', None), ("9" * 19, None), ("9" * 5000, None)],
)
def test_a_step_is_an_integer_of_64_bits(written: str, step: int | None) -> None:
    assert json_lines(f'{{"step": {written}, "loss": 1}}').rows == [Row(0, "loss", "1", 0, step)]


def test_escaped_surrogates_and_nul_become_storable() -> None:
    line = json.dumps({"loss": "a\0b\ud800c"})
    assert values(json_lines(line)) == [("loss", "a\N{REPLACEMENT CHARACTER}b?c")]
