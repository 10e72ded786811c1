"""`python -m sweeps.cli`, where the command is not on the path."""

from sweeps.cli.entry import main

if __name__ == "__main__":
    main()
