"""Events as plain JSON, as tests write them and look at them."""

import json

from kdsweep.ledger import read_ledger
from kdsweep.ledger.events import decode, to_json
from kdsweep.ledger.file import encode_line


def typed(events):
    """Events of plain JSON as the ledger's readers give them."""
    return [typed_event(event) for event in events]


def typed_event(event):
    return decode(json.dumps(event).encode())


def read_plain(path):
    """All whole events of a ledger as plain JSON."""
    return [to_json(event) for event in read_ledger(path)]


def write_plain(path, events):
    """Write events at their own times into a new ledger; what they lack has no line."""
    lines = []
    for seq, event in enumerate(events):
        head = {"event": event["event"], "seq": seq, "time": event.get("time", float(seq))}
        lines.append(encode_line({**head, **event, "seq": seq}))
    path.write_bytes(b"".join(lines))
