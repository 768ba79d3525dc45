"""`python -m espnet_prune` is the command `espnet-prune`."""

from espnet_prune.cli import main

if __name__ == "__main__":
    main()
