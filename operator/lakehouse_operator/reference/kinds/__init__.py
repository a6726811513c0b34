"""Every kind of record that is not a plain event, as tables: malformed, rule-breaking, and valid but unusual."""

from lakehouse_operator.reference.kinds import malformed, rule_breaking, unusual
from lakehouse_operator.reference.kinds.draft import Draft, Kind

MALFORMED: tuple[Kind, ...] = malformed.KINDS
RULE_BREAKING: tuple[Kind, ...] = rule_breaking.KINDS
UNUSUAL: tuple[Kind, ...] = unusual.KINDS

__all__ = ["MALFORMED", "RULE_BREAKING", "UNUSUAL", "Draft", "Kind"]
