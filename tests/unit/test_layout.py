"""The shape of the source tree that everything else relies on."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_source_root_is_no_package() -> None:
    assert (ROOT / "operator" / "inference_operator" / "__init__.py").is_file()
    assert not (ROOT / "operator" / "__init__.py").exists(), "it would shadow the standard library's operator module"
