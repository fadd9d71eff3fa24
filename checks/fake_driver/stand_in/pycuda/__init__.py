"""What the cuda device uses of PyCUDA, in Python over the same driver calls.

PyCUDA's package is built from source for some minutes, so that a machine that only tests has this
instead. Where PyCUDA itself is installed it is what the tests run on, and one of them compares the
two, call by call.
"""
