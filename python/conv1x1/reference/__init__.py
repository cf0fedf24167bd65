"""The definitions in plain NumPy, to read and to test against: of `floats`, and of `quantized` arrays."""
