``python -m bench`` measures eight things beside what one would get otherwise, and says what reaches its target: see ``docs/benchmarks.rst``.
