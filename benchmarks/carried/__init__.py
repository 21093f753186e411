"""A training for a machine that takes files only in small parts: packed here, unpacked and trained there."""
