"""Command-line arguments from a dataclass."""

import argparse
import dataclasses


def cli(kind):
    parser = argparse.ArgumentParser()
    for field in dataclasses.fields(kind):
        default = field.default
        reader = (lambda text: text == "True") if isinstance(default, bool) else type(default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", dest=field.name, default=default, type=reader)
    return kind(**vars(parser.parse_args()))
