"""Metadata is in pyproject.toml; here README's links are made absolute, since PyPI knows no relative ones."""

import pathlib
import re
import tomllib

from setuptools import setup

HERE = pathlib.Path(__file__).parent
ADDRESS = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"]
README = (HERE / "README.md").read_text(encoding="utf-8")
README = re.sub(r"(!\[[^]]*\]\()(?!http|#)", rf"\g<1>{ADDRESS}/raw/main/", README)
README = re.sub(r"(?<!!)(\[[^]!]*\]\()(?!http|#)", rf"\g<1>{ADDRESS}/blob/main/", README)

setup(long_description=README, long_description_content_type="text/markdown")
