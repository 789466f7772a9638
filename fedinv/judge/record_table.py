"""records.parquet: every true record beside the claim that is matched with it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedinv.data.population import Population
from fedinv.judge.questions import Tried
from fedinv.judge.verdict import Verdict
from fedinv.task.columns import PADDING, Continuous, Image, Tokens


def table(tried: Tried, verdicts: Sequence[Verdict], people: Population) -> pa.Table:
    """Table of one attack, a row per true record: the person, true, claimed and right fields, and the person linked.

    `guess:` columns hold the chance that the guess without the update has the field right.
    """
    parts = [
        _rows(tried, observation.last.round, observation.clients, verdict, people)
        for (observation, _), verdict in zip(tried.said, verdicts, strict=True)
    ]
    return pa.concat_tables(parts)


def to_parquet(tables: Iterable[pa.Table]) -> bytes:
    """Write the rows of all attacks as the content of one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return bytes(sink.getvalue())


def _rows(tried: Tried, round_: int, clients: tuple[int, ...], verdict: Verdict, people: Population) -> pa.Table:
    rows, found, schema = verdict.case.rows, verdict.match, people.table.schema
    count, claimed, silent = len(rows), found.claimed, verdict.link.person < 0
    holder = {int(row): client for client in clients for row in people.shares[client]}
    confidence = verdict.case.claim.confidence.double().numpy()
    columns: dict[str, Any] = {
        "attack": pa.array([tried.attack.kind] * count, pa.string()),
        "variant": pa.array([tried.variant] * count, pa.string()),
        "target": pa.array([tried.target] * count, pa.string()),
        "round": pa.array([round_] * count, pa.int64()),
        "client": pa.array([holder[int(row)] for row in rows], pa.int64()),
        "person": pa.array(rows, pa.int64()),
        "claimed": pa.array(claimed, pa.bool_()),
        "confidence": _masked(confidence, found.claim, claimed, pa.float64()),
        "recovered": pa.array(verdict.recovered, pa.bool_()),
        "exact": pa.array(found.exact, pa.bool_()),
        "linked": pa.array(verdict.link.person, pa.int64(), mask=silent),
        "linked_among": pa.array(verdict.link.among, pa.int64(), mask=silent),
        "linked_right": pa.array(verdict.link.right, pa.float64(), mask=silent),
    }
    for name, who in (people.table.identities or {}).items():
        columns[f"identity:{name}"] = pa.array([str(who[row]) for row in rows], pa.string())
        columns[f"linked:{name}"] = pa.array(
            [str(who[row]) if row >= 0 else None for row in verdict.link.person], pa.string()
        )
    truth = people.table.take(rows).columns
    claims: Mapping[str, Any] = schema.decode(verdict.case.claim.records)
    if schema.image is not None:
        return pa.table(columns | _image(verdict, truth[schema.image.name], schema.image, claims))
    if schema.tokens is not None:
        return pa.table(columns | _text(verdict, truth[schema.tokens.name], schema.tokens, claims))
    for position, column in enumerate(schema.columns):
        kind = pa.float64() if isinstance(column, Continuous) else pa.string()
        columns[f"true:{column.name}"] = pa.array(truth[column.name].tolist(), kind)
        columns[f"claimed:{column.name}"] = _masked(claims[column.name], found.claim, claimed, kind)
        columns[f"right:{column.name}"] = pa.array(found.right[:, position], pa.bool_())
        columns[f"guess:{column.name}"] = pa.array(verdict.guessed[:, position], pa.float64())
    return pa.table(columns)


def _image(
    verdict: Verdict, truth: NDArray[np.float64], image: Image, claims: Mapping[str, Any]
) -> dict[str, pa.Array]:
    """Columns of an image: true and claimed pixels as lists, the share of right ones, PSNR and SSIM."""
    found, claimed, kind = verdict.match, verdict.match.claimed, pa.list_(pa.float32())
    columns = {
        f"true:{image.name}": pa.array(list(truth.astype(np.float32)), kind),
        f"claimed:{image.name}": _masked(claims[image.name].astype(np.float32), found.claim, claimed, kind),
        f"right:{image.name}": pa.array(found.right.mean(1), pa.float64()),
    }
    if verdict.quality is not None:
        columns["psnr"] = pa.array(verdict.quality.psnr, pa.float64(), mask=~claimed)
        columns["ssim"] = pa.array(verdict.quality.ssim, pa.float64(), mask=~claimed | np.isnan(verdict.quality.ssim))
    return columns


def _text(verdict: Verdict, truth: NDArray[np.int64], tokens: Tokens, claims: Mapping[str, Any]) -> dict[str, pa.Array]:
    """Columns of a text: the true and the claimed one in words, and the shares of words right and guessed right."""
    found, words = verdict.match, truth != PADDING
    said = np.array([tokens.text(one) for one in claims[tokens.name]], dtype=object)
    count = np.maximum(1, words.sum(1))
    return {
        f"true:{tokens.name}": pa.array([tokens.text(one) for one in truth], pa.string()),
        f"claimed:{tokens.name}": _masked(said, found.claim, found.claimed, pa.string()),
        f"right:{tokens.name}": pa.array((found.right & words).sum(1) / count, pa.float64()),
        f"guess:{tokens.name}": pa.array((verdict.guessed * words).sum(1) / count, pa.float64()),
    }


def _masked(values: Any, claim: Any, claimed: Any, kind: pa.DataType) -> pa.Array:
    """Claimed values in the order of the true records, null without a claim."""
    listed = values.tolist()
    return pa.array([listed[c] if has else None for c, has in zip(claim, claimed, strict=True)], kind)
