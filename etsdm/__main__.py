"""`python -m etsdm`, the same as `etsdm`."""

from etsdm.cli import main

if __name__ == "__main__":
    main()
