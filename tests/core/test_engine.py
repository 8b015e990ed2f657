from __future__ import annotations

import msgspec

from gristmill.core.engine import Message, Request, Sampling
from gristmill.engines.log.store import request_key


def test_a_default_that_is_written_out_is_the_same_request() -> None:
    every = {name: getattr(Sampling(), name) for name in Sampling.__struct_fields__}
    text = msgspec.json.encode(every)
    written = msgspec.json.decode(text, type=Sampling)
    messages = (Message("user", "1+1?"),)
    assert request_key("m", Request(messages, written)) == request_key("m", Request(messages, Sampling()))
    assert msgspec.json.encode(written) == b"{}"
    other = Request(messages, Sampling(temperature=0.9))
    assert request_key("m", other) != request_key("m", Request(messages, Sampling()))
