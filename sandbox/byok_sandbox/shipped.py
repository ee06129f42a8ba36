"""Where the files that come with the project are: in the package when installed from a wheel, else in the checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parent.parent


def examples() -> Path:
    """Folder of the example manifests and, in `media/`, of the sample assets."""
    return _first(_PACKAGE / "examples", _CHECKOUT / "examples")


def presets() -> Path:
    """Folder of the preset recipes."""
    return _first(_PACKAGE / "presets", _CHECKOUT / "charts" / "byok-operator" / "presets")


def _first(*folders: Path) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"none of {', '.join(map(str, folders))} is there: the installation is incomplete")
