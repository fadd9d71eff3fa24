"""The emulated device's C++ side: `build` compiles its runtime and version files."""
