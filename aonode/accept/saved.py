"""Files that `aonode result --save` writes: a result with all that is needed to check it.

    {"kind": "aonode-result-1", "network": id, "process": id, "format": text,
     "process_item": bytes, "results": [{"receipt", "outcome", "assignment", "message"}, ...],
     "checkpoint": bytes, "stakes": [bytes, ...]}

Ids and bytes are base64url. One entry of `results` per unit that answered. The last two are there
with `--accept`: a final checkpoint of the ledger, and proofs of the stakes under it. The JSON of
`GET /proof/:message` is read as a file with one result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from aonode.verify_result import Evidence
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, ProcessId, b64url, unb64url

KIND = "aonode-result-1"
RESULTS_MAX = 64
SAVED_BYTES_MAX = 256 << 20


def result_document(
    network: NetworkId,
    process: ProcessId,
    *,
    format: str,
    process_item: bytes,
    evidence: Sequence[Evidence],
) -> dict[str, Any]:
    """The content of a file."""
    return {
        "kind": KIND,
        "network": b64url(network),
        "process": b64url(process),
        "format": format,
        "process_item": b64url(process_item),
        "results": [
            {
                "receipt": b64url(each.receipt),
                "outcome": b64url(each.outcome),
                "assignment": b64url(each.assignment),
                "message": b64url(each.message),
            }
            for each in evidence
        ],
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a file in one step. Raises Invalid(CONFIG) where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Invalid(Reason.CONFIG, f"{path} cannot be written: {error.strerror}") from None


def read_document(blob: bytes, what: str) -> dict[str, Any]:
    """A JSON object of bounded size. Raises Invalid(MALFORMED)."""
    if len(blob) > SAVED_BYTES_MAX:
        raise Invalid(Reason.OVERSIZE, f"{what} has more than {SAVED_BYTES_MAX} bytes")
    try:
        value = msgspec.json.decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(Reason.MALFORMED, f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid(Reason.MALFORMED, f"{what} is not a JSON object")
    return value


def results_in(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answers of units in a file, or in the JSON of `/proof`. Raises Invalid(MALFORMED)."""
    rows = document.get("results", [document])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Invalid(Reason.MALFORMED, "the file's 'results' is not a list of answers")
    if not 0 < len(rows) <= RESULTS_MAX:
        raise Invalid(Reason.OVERSIZE, f"the file has {len(rows)} results, not 1..{RESULTS_MAX}")
    return rows


def statements_in(blob: bytes) -> list[bytes]:
    """The receipts in a file, or the one encoded statement that the file is. Raises Invalid."""
    if blob[:1] != b"{":
        return [blob]
    document = read_document(blob, "the file")
    texts = (
        [document["statement"]]
        if "statement" in document
        else [row.get("receipt") for row in results_in(document)]
    )
    if not all(isinstance(text, str) for text in texts):
        raise Invalid(
            Reason.MALFORMED,
            "the file holds no receipts; give what 'aonode result --save' wrote, the JSON of "
            "/proof, or an encoded statement",
        )
    return [unb64url(str(text)) for text in texts]
