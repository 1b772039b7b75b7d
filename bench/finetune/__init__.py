"""Steps that go on training a compressed network."""
