"""Side-by-side benchmarks: this package against raw clients and peers, in one run."""
