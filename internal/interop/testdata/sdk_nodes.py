"""A cluster of which the first node is down."""

import os

import deputy

addresses = os.environ["DEPUTY_ADDR"].split(",")
token = os.environ["DEPUTY_TOKEN"]
with deputy.Client(addresses, token) as client:
    for i in range(5):
        client.principals.create(f"user-{i}@company.com")
    written = client.index
    assert written > 0
# Another process, at another node, reads what was written.
for address in addresses[1:]:
    with deputy.Client([address], token) as client:
        client.observe(written)
        assert [p.id for p in client.principals.list(page_size=2)] == [f"user-{i}@company.com" for i in range(5)]
# Only the dead one: that nobody answers is no answer.
with deputy.Client(addresses[:1], token, timeout=2) as client:
    try:
        client.principals.get("user-0@company.com")
    except deputy.Unreachable as e:
        assert list(e.failures) == addresses[:1], e
    else:
        raise AssertionError("nobody is there")
print("done")
