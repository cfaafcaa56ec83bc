"""``python -m starters`` is ``erlmcp-deploy``."""

from starters.cli import app


def main() -> None:
    """Run the command line; exits with the codes of `starters.errors.ExitCode`."""
    app(prog_name="erlmcp-deploy")


if __name__ == "__main__":
    main()
