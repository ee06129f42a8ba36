"""`python -m benchmarks`: see `running`, which processes of the benchmarks' own need not load."""

if __name__ == "__main__":
    from benchmarks.running import main

    raise SystemExit(main())
