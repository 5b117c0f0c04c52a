"""One short runnable example per pattern; what each prints is in its docstring, and checked by a test."""
