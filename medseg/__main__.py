"""`python -m medseg` is the same as `medseg`; `torchrun -m medseg` runs it on several GPUs."""

from medseg.cli import main

if __name__ == "__main__":
    main()
