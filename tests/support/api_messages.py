"""The API server's words for a refusal, without what every refusal says or Kubernetes' versions say differently."""

import re

_HEAD = re.compile(r'^[A-Za-z]+\.byok\.dev "[^"]+" is invalid: (\[?)(.*)$')
_PATTERN = re.compile(r"should match '\S+'")
# Kubernetes 1.35 and older name the type of the part that a CEL rule is about.
_TYPE = re.compile(r'Invalid value: "object": ')
# Kubernetes 1.36 says of a number where an integer is wanted in a second way, too.
_CHECKED = re.compile(
    r', <nil>: Invalid value: "": Checked value must be of type integer \(default format\) in [^,\]]+'
)
_UNCHECKED = (
    ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


def shortened(message: str) -> str:
    """Leave out the object's kind and name, and patterns, which docs/reference shows."""
    head = _HEAD.match(message)
    text = message if head is None else head[2].removesuffix("]" if head[1] else "").removesuffix(_UNCHECKED)
    return _TYPE.sub("Invalid value: ", _CHECKED.sub("", _PATTERN.sub("should match PATTERN", text)))
