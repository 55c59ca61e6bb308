"""Reads filters. Every text gives a filter or a ``FilterError``, in time that its bounded length bounds."""

from __future__ import annotations

from typing import Final, cast

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from serai.analysis.filter.errors import FilterError
from serai.analysis.filter.fields import FIELDS, find
from serai.analysis.filter.kinds import Operator
from serai.analysis.filter.tree import EVERYTHING, KEYWORDS, WORD, And, Filter, Not, Or, Term
from serai.analysis.filter.values import Value

LONGEST: Final = 2000
"""Characters of a filter, as written and in the canonical form."""
DEEPEST: Final = 32
"""How many parentheses and ``not`` may stand in one another."""

_PART = WORD.removesuffix("+")
_PARSER = Lark(
    rf"""
    ?start: any
    ?any: all (_OR all)*
    ?all: one (_AND one)*
    ?one: _NOT one -> negation
        | "(" any ")"
        | WORD OPERATOR _value -> comparison
        | WORD _IN _list -> among
        | WORD _NOT _IN _list -> outside
    _list: "(" _value ("," _value)* ")"
    _value: WORD | QUOTED

    _AND.2: /and(?!{_PART})|&&/i
    _OR.2: /or(?!{_PART})|\|\|/i
    _NOT.2: /not(?!{_PART})|!(?![=~])/i
    _IN.2: /in(?!{_PART})/i
    OPERATOR.2: /[!<>=]=|!~|[<>=~]/
    WORD: /{WORD}/
    QUOTED: /"(?:[^"]|"")*"|'(?:[^']|'')*'/
    %ignore /\s+/
    """,
    parser="lalr",
    lexer="basic",
)


def parse(text: str) -> Filter:
    """Read a filter; an empty text is the filter that holds for everything.

    Raises:
        FilterError: it is none; its text shows the spot and says what was expected there.
    """
    if len(text) > LONGEST:
        raise FilterError(text, LONGEST, f"a filter has at most {LONGEST} characters, this one has {len(text)}")
    tokens = _tokens(text)
    if not tokens:
        return EVERYTHING
    _check_depth(text, tokens)
    found = _Reader(text).filter(_tree(text, tokens))
    if len(str(found)) > LONGEST:
        raise FilterError(text, len(text), f"written out, this filter has more than {LONGEST} characters")
    return found


def _tokens(text: str) -> list[Token]:
    try:
        return list(_PARSER.lex(text))
    except UnexpectedCharacters as error:
        position = cast("int", error.pos_in_stream)
        character = text[position]
        fault = "this quote is not closed" if character in "\"'" else f"write {character * 2}, or put it in quotes"
        raise FilterError(text, position, fault) from None


def _check_depth(text: str, tokens: list[Token]) -> None:
    """Refuse what would be too deep for whoever walks the filter, a recursion for each level."""
    negations, depths = 0, [0]
    for token in tokens:
        negations = negations + 1 if token.type == "_NOT" else 0 if token.type != "LPAR" else negations
        if token.type == "LPAR":
            depths.append(depths[-1] + negations + 1)
            negations = 0
        elif token.type == "RPAR" and len(depths) > 1:
            depths.pop()
        if depths[-1] + negations > DEEPEST:
            raise FilterError(text, _position(token), f"a filter is at most {DEEPEST} parentheses and 'not' deep")


def _tree(text: str, tokens: list[Token]) -> Tree[Token]:
    parser = _PARSER.parse_interactive()
    before: Token | None = None
    for token in tokens:
        try:
            parser.feed_token(token)
        except UnexpectedToken:
            raise _misplaced(text, before, token, parser) from None
        before = token
    try:
        tree: Tree[Token] = parser.feed_eof(before)  # type: ignore[no-untyped-call]
    except UnexpectedToken:
        raise _cut_short(text, tokens, parser) from None
    return tree


_EXPECTED: Final = {
    "QUOTED": "here a value is expected",
    "WORD": "here a comparison is expected, such as vm=web-1",
    "COMMA": "here a comma is expected, or the ) that ends the list",
    "LPAR": "here a list is expected, such as (web-1, web-2)",
    "_IN": "here 'in' and a list are expected",
}
"""What to say where a token of that kind could come next; the first that could decides."""
_BETWEEN: Final = {
    "COMMA": "a comma stands in lists only: write 'and' or 'or' between two comparisons",
    "OPERATOR": "a comparison has one operator: put a value that holds such characters in quotes",
    "RPAR": "there is no ( for this )",
    "_IN": "a comparison has one operator: put a value that holds such characters in quotes",
}
"""What is wrong behind a comparison, by what stands there."""


def _misplaced(text: str, before: Token | None, token: Token, parser: InteractiveParser) -> FilterError:
    """Say what was expected where ``token`` stands."""
    accepted, position = _accepted(parser), _position(token)
    if "OPERATOR" in accepted and before is not None:
        return _no_comparison(text, before, position)
    expected = next((said for kind, said in _EXPECTED.items() if kind in accepted), "")
    if "QUOTED" in accepted and token.lower() in KEYWORDS:
        expected = f"{str(token)!r} is a word of the language: put it in quotes"
    elif "QUOTED" in accepted and token.type == "LPAR":
        expected += ": a list stands behind in"
    between = _BETWEEN.get(token.type, "write 'and' or 'or' between two comparisons")
    return FilterError(text, position, expected or between)


def _cut_short(text: str, tokens: list[Token], parser: InteractiveParser) -> FilterError:
    """Say what was expected at the end."""
    accepted, end = _accepted(parser), len(text.rstrip())
    if "OPERATOR" in accepted:
        return _no_comparison(text, tokens[-1], end)
    opened: list[Token] = []
    for token in tokens:
        if token.type == "LPAR":
            opened.append(token)
        elif token.type == "RPAR":
            opened.pop()
    if "RPAR" in accepted and opened:
        return FilterError(text, _position(opened[-1]), "this ( is not closed")
    expected = next((said for kind, said in _EXPECTED.items() if kind in accepted), "here something is missing")
    return FilterError(text, end, expected)


def _no_comparison(text: str, word: Token, position: int) -> FilterError:
    try:
        name, _ = find(str(word))
    except ValueError:
        return FilterError(
            text, _position(word), "this is no comparison: write a field, an operator and a value, such as vm=web-1"
        )
    operators = ", ".join(FIELDS[name].kind.operators)
    return FilterError(text, position, f"behind {str(word)!r} an operator is expected: one of {operators}")


def _accepted(parser: InteractiveParser) -> set[str]:
    """Return the kinds of tokens that may come next."""
    return set(parser.accepts())  # type: ignore[no-untyped-call]


def _position(token: Token) -> int:
    return token.start_pos or 0


class _Reader:
    """Makes a filter of what the parser found in ``text``."""

    def __init__(self, text: str) -> None:
        self._text = text

    def filter(self, tree: Tree[Token]) -> Filter:
        match tree.data:
            case "any":
                return Or(tuple(self.filter(part) for part in _parts(tree)))
            case "all":
                return And(tuple(self.filter(part) for part in _parts(tree)))
            case "negation":
                return Not(self.filter(_parts(tree)[0]))
        field, *rest = (child for child in tree.children if isinstance(child, Token))
        match tree.data:
            case "comparison":
                return self._term(field, rest[0], Operator(str(rest[0]).replace("==", "=")), rest[1:])
            case "among":
                return self._term(field, field, Operator.IN, rest)
        return Not(self._term(field, field, Operator.IN, rest))

    def _term(self, word: Token, sign: Token, operator: Operator, written: list[Token]) -> Term:
        try:
            name, key = find(str(word))
        except ValueError as error:
            raise FilterError(self._text, _position(word), str(error)) from None
        kind = FIELDS[name].kind
        if operator not in kind.operators:
            known = ", ".join(kind.operators)
            raise FilterError(self._text, _position(sign), f"{name!r} is compared by {known}, not by {operator}")
        values: list[Value] = []
        for token in written:
            try:
                values.append(kind.value(operator, _unquoted(token)))
            except ValueError as error:
                raise FilterError(self._text, _position(token), str(error)) from None
        return Term(field=name, key=key, operator=operator, values=tuple(values))


def _parts(tree: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in tree.children if isinstance(child, Tree)]


def _unquoted(token: Token) -> str:
    if token.type != "QUOTED":
        return str(token)
    quote, inside = token[0], str(token[1:-1])
    return inside.replace(quote * 2, quote)
