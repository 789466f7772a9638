"""CSV files with anything in them: each is a table, or is refused in one line that repeats no cell."""

import csv
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedinv.data.table_checks import loaded
from fedinv.scenario.reading import parse

HEAD = ["name", "age", "sex", "pressure", "ward", "y"]
CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            "nan",
            "inf",
            "1e999",
            "-0",
            "1,5",
            "1.234,5",
            "12 %",
            "<5",
            ".",
            "-",
            "NA",
            "#N/A",
            "2024-01-31",
            "5 kg",
            "0x1f",
            "true",
            "\0",
            "\x1b[31m",
            "\u202e",
            "<script>",
            "=1+1",
            "'",
            '"',
            "\n",
            "1" * 400,
            "a" * 2000,
            "\uff19",
            "1_000",
        ]
    ),
    st.text(max_size=6),
    st.floats().map(str),
    st.integers().map(str),
)
NAMES = st.one_of(
    st.sampled_from(
        ["", "y", "age", " ", "\x1b[31mred", "\u202e", "a" * 300, "__class__", "data.path", "<b>", "Unnamed: 0"]
    ),
    st.text(max_size=6),
)


def rows(count):
    rng = np.random.default_rng(count)
    return [
        [
            f"P{rng.integers(10**6)}",
            str(rng.integers(20, 90)),
            str(rng.choice(list("fm"))),
            f"{rng.normal(120, 15):.1f}",
            str(rng.choice(list("ABC"))),
            str(rng.integers(2)),
        ]
        for _ in range(count)
    ]


@st.composite
def files(draw):
    """The bytes of a CSV file, right up to some of its parts."""
    head, body = list(HEAD), rows(draw(st.sampled_from([0, 1, 2, 5, 30, 60])))
    for _ in range(draw(st.integers(0, 2))):
        column = draw(st.integers(0, len(head) - 1))
        if draw(st.booleans()):
            head[column] = draw(NAMES)
        share = draw(st.sampled_from([1, 2, 10, 10**6]))
        for row in body[::share]:
            row[column] = draw(CELLS) if share > 1 else draw(st.shared(CELLS, key=f"column-{column}"))
    if body and draw(st.booleans()):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.lists(CELLS, max_size=8))
    sink = io.StringIO()
    writer = csv.writer(
        sink,
        delimiter=draw(st.sampled_from([","] * 4 + [";", "\t", "|"])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    writer.writerow(head)
    writer.writerows(body)
    text = sink.getvalue()
    how = draw(st.sampled_from(["whole"] * 5 + ["cut", "quote", "bytes", "encoded", "bom", "twice"]))
    if how == "cut":
        return text.encode()[: draw(st.integers(0, len(text)))]
    if how == "quote":
        return (text + '"abc').encode()
    if how == "bytes":
        return text.encode() + draw(st.binary(max_size=50))
    if how == "encoded":
        return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])))
    return {"bom": "\ufeff" + text, "twice": text + text}.get(how, text).encode()


def test_tables_with_anything_in_them(law, examples, tmp_path):
    path = tmp_path / "people.csv"

    @examples(60)
    @given(
        files(),
        st.sampled_from(
            [{}, {"drop": ["name"]}, {"identify": ["name"]}, {"categorical": ["age"]}, {"continuous": ["age"]}]
        ),
    )
    def holds(content, keys):
        path.write_bytes(content)

        def table():
            data = {"source": "csv", "path": str(path), "label": "y", **keys}
            scenario = parse(
                {
                    "name": "x",
                    "data": data,
                    "federation": {"clients": 2, "rounds": 1},
                    "training": {"algorithm": "fedavg"},
                },
                "x",
            )
            return loaded(scenario.data, 7)

        found = law(table)
        if found is not None:
            encoded = found.schema.encode(found.columns)
            assert encoded.shape == (len(found), found.schema.width)
            assert bool(encoded.isfinite().all())

    holds()
