"""What the tests of the bench share: the programs of a control plane, built before the first test that needs them."""

from planes import programs, pytest_collection_finish

__all__ = ["programs", "pytest_collection_finish"]
