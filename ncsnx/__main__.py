"""`python -m ncsnx` is `ncsnx`."""

from ncsnx.cli import main

if __name__ == "__main__":
    main()
