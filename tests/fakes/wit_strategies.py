"""Hypothesis strategies for WIT types and for the values of a given type."""

from __future__ import annotations

from hypothesis import strategies as st

from fleet.wit_types import (
    BYTES,
    INTEGER_RANGES,
    EnumType,
    Err,
    FlagsType,
    ListType,
    Ok,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    Some,
    TupleType,
    Variant,
    VariantType,
    WitType,
)

LABELS = st.from_regex(r"[a-z][a-z0-9]{0,4}(-[a-z][a-z0-9]{0,3}){0,2}", fullmatch=True)
PRIMITIVES = st.sampled_from(Primitive)


def _labels(most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(LABELS, min_size=1, max_size=most, unique=True)


def _labelled(parts: st.SearchStrategy, most: int = 4) -> st.SearchStrategy[tuple]:
    return _labels(most).flatmap(lambda names: st.tuples(*[st.tuples(st.just(name), parts) for name in names]))


def _compound(parts: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    maybe = st.none() | parts
    return st.one_of(
        st.builds(ListType, parts),
        st.builds(OptionType, parts),
        st.builds(ResultType, maybe, maybe),
        st.builds(TupleType, st.lists(parts, min_size=1, max_size=4).map(tuple)),
        st.builds(RecordType, _labelled(parts)),
        st.builds(VariantType, _labelled(maybe)),
        st.builds(EnumType, _labels(5).map(tuple)),
        st.builds(FlagsType, _labels(5).map(tuple)),
    )


TYPES: st.SearchStrategy[WitType] = st.recursive(PRIMITIVES | st.just(BYTES), _compound, max_leaves=6)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def _primitive(kind: Primitive) -> st.SearchStrategy:
    match kind:
        case Primitive.BOOL:
            return st.booleans()
        case Primitive.F32:
            return st.floats(width=32, allow_nan=False)
        case Primitive.F64:
            return st.floats(allow_nan=False)
        case Primitive.CHAR:
            return st.characters(exclude_categories=["Cs"])
        case Primitive.STRING:
            return _TEXT
    return st.integers(*INTEGER_RANGES[kind])


def values(kind: WitType) -> st.SearchStrategy:
    """Values of a type; no NaN, which does not equal itself."""
    match kind:
        case Primitive():
            return _primitive(kind)
        case ListType():
            return st.binary(max_size=12) if kind == BYTES else st.lists(values(kind.element), max_size=4)
        case RecordType():
            return st.fixed_dictionaries({name: values(part) for name, part in kind.fields})
        case TupleType():
            return st.tuples(*[values(part) for part in kind.items])
        case VariantType():
            return st.one_of([_case(name, part) for name, part in kind.cases])
        case EnumType():
            return st.sampled_from(kind.cases)
        case FlagsType():
            return st.frozensets(st.sampled_from(kind.names))
        case OptionType():
            inner = values(kind.payload)
            return st.none() | (st.builds(Some, inner) if isinstance(kind.payload, OptionType) else inner)
        case ResultType():
            return st.builds(Ok, _maybe(kind.ok)) | st.builds(Err, _maybe(kind.err))
    raise ValueError(f"no values of {kind}")


def _maybe(kind: WitType | None) -> st.SearchStrategy:
    return st.none() if kind is None else values(kind)


def _case(name: str, kind: WitType | None) -> st.SearchStrategy[Variant]:
    return st.builds(Variant, st.just(name), _maybe(kind))


TYPED_VALUES = TYPES.flatmap(lambda kind: st.tuples(st.just(kind), values(kind)))
"""Pairs of a type and a value of it."""
