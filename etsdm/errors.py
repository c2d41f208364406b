"""The errors that etsdm raises at its borders: to a person who wrote a recipe, named a part or opened a file.

Every message says where (file, line, field), what was found, what was expected, and the mend. The command line prints the
message alone and exits with `exit_code`. Inside the mathematics a plain `ValueError` is raised.
"""

__all__ = ["CheckpointError", "DataError", "EtsdmError", "IntegrityError", "RecipeError", "RegistryError"]


class EtsdmError(Exception):
    """Base of all errors with a message for the user."""

    exit_code = 2


class RegistryError(EtsdmError, ValueError):
    """A name that no part has, or that two parts want, a plug-in that does not load, or fields that a part refuses."""


class RecipeError(EtsdmError, ValueError):
    """A recipe that cannot be read, or whose fields do not fit together."""


class CheckpointError(EtsdmError):
    """A folder that is no checkpoint, or one that does not fit the denoiser it is loaded into."""


class DataError(EtsdmError):
    """Training or evaluation data that is missing or is not what was declared."""


class IntegrityError(EtsdmError):
    """A file whose content is not what its record says, or a run that cannot go on without losing something."""
