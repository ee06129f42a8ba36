"""Reading a status back: what the operator of another version, or somebody else, has written must not hide the rest."""

import json
from typing import TypeVar

from pydantic import ValidationError

from byok_api.fields import Model
from byok_operator.store import Seen

_Status = TypeVar("_Status", bound=Model)


def read_status(model: type[_Status], seen: Seen) -> _Status | None:
    """Read an object's status without the fields that this version does not understand; None if nothing is left."""
    content = seen.status_json()
    if content == b"{}":
        return None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        strange = {details["loc"][0] for details in error.errors(include_url=False) if details["loc"]}
    fields = {name: value for name, value in json.loads(content).items() if name not in strange}
    try:
        return model.model_validate_json(json.dumps(fields)) if fields else None
    except ValidationError:
        return None
