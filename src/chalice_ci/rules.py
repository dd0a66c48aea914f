"""Every rule a finding can name, declared once.

`docs/findings.md` is generated from `RULES` (`python -m chalice_ci.rules docs/findings.md`) and a
test holds the two equal. A finding of a declared rule is made by `finding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chalice_ci.doctor.rules import DOCTOR
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.rule import Group, Rule

_NEVER = "There is nothing to allow: the app cannot work like this."

_EXPERIMENTAL = (
    Rule(
        name="experimental-feature",
        title="An experimental feature is used without opting in",
        group=Group.EXPERIMENTAL,
        severity=Severity.ERROR,
        explanation=(
            "Chalice may change or remove an experimental feature in any release,\n"
            "so `chalice deploy` refuses an app that uses one without saying so.\n"
            "The app is loaded once per stage, by its own Chalice and with the stage's variables;\n"
            "what counts is what that app really registered (a WebSocket API in the application\n"
            "graph proves the use, whatever the app says), not what a search in its text finds.\n"
            "The opt-in counts when the set of flags holds exactly the feature's name:\n"
            "a string such as `'WEBSOCKETS_X'`, single letters or lower case do not opt in."
        ),
        before=(
            "from chalice import Chalice\n\n"
            "app = Chalice(app_name='chat')\n\n\n"
            "@app.on_ws_message()\n"
            "def message(event):\n"
            "    ..."
        ),
        after=(
            "from chalice import Chalice\n\n"
            "app = Chalice(app_name='chat')\n"
            "app.experimental_feature_flags.update(['WEBSOCKETS'])\n\n\n"
            "@app.on_ws_message()\n"
            "def message(event):\n"
            "    ..."
        ),
        allow=(
            "Opt in, in the app. `experimental.allow` in `chalice-ci.yml` does not replace the\n"
            "opt-in: Chalice itself would refuse the deployment."
        ),
    ),
    Rule(
        name="experimental-not-allowed",
        title="The repository's policy forbids an experimental feature",
        group=Group.EXPERIMENTAL,
        severity=Severity.ERROR,
        explanation=(
            "`experimental.allow` lists the experimental features that apps of this repository\n"
            "may use, and a stage's `allow-experimental` replaces that list for the stage\n"
            "(also when it is empty). The policy wins over opting in.\n"
            "Without either, an opt-in in the app is enough."
        ),
        before="stages:\n  prod: {allow-experimental: []}",
        after="stages:\n  prod: {allow-experimental: [WEBSOCKETS]}",
        language="yaml",
        allow="Add the feature to the list that the finding names, or stop using it in the stage.",
    ),
    Rule(
        name="experimental-flag-unused",
        title="An experimental feature is opted into but not used",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "A stale opt-in hides the next, unintended use of the feature.\n"
            "When the source uses the feature but this stage does not load that code, it is a\n"
            "notice only."
        ),
        before=(
            "app = Chalice(app_name='orders')\n"
            "app.experimental_feature_flags.update(['WEBSOCKETS'])  # no on_ws_... left"
        ),
        after="app = Chalice(app_name='orders')",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="experimental-flag-unknown",
        title="An experimental feature flag that Chalice does not know",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "Chalice accepts any text as a flag and ignores what it does not know,\n"
            "so a typing error, lower case or a feature of a newer Chalice opts into nothing."
        ),
        before="app.experimental_feature_flags.update(['websockets'])",
        after="app.experimental_feature_flags.update(['WEBSOCKETS'])",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="experimental-flag-accepted",
        title="An opt-in for a feature that is no longer experimental",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "The feature was accepted into Chalice (blueprints: in 1.15.0), so the flag does\n"
            "nothing any more and can be removed."
        ),
        before="app.experimental_feature_flags.update(['BLUEPRINTS'])",
        after="# nothing: blueprints are part of Chalice",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="experimental-flags-type",
        title="The experimental feature flags are not a set of names",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "`experimental_feature_flags` is a set of strings. When it is replaced by a string,\n"
            "Chalice tests for a *part* of it (`'WEBSOCKETS' in 'WEBSOCKETS_X'` is true), and\n"
            "`.update('WEBSOCKETS')` adds ten letters instead of one name."
        ),
        before="app.experimental_feature_flags.update('WEBSOCKETS')",
        after="app.experimental_feature_flags.update(['WEBSOCKETS'])",
        allow="It is a warning; the missing opt-in is an error of its own.",
    ),
    Rule(
        name="experimental-in-source",
        title="The source uses an experimental feature that this stage does not load",
        group=Group.EXPERIMENTAL,
        severity=Severity.NOTICE,
        explanation=(
            "The text of `app.py` and `chalicelib` names the feature, but the loaded app has no\n"
            "such handler: a blueprint that is not registered, a decorator behind a condition, or\n"
            "a second `Chalice` object. Nothing is deployed for it in this stage."
        ),
        before=(
            "events = Blueprint(__name__)  # never registered\n\n\n"
            "@events.on_ws_message()\n"
            "def message(event):\n"
            "    ..."
        ),
        after="app.register_blueprint(events)",
        allow="It is advice: it never fails the build.",
    ),
    Rule(
        name="cli-mode-dependent",
        title="The app asks whether it runs inside Chalice's command line",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "`AWS_CHALICE_CLI_MODE` is set while Chalice loads the app to deploy it, and not in\n"
            "Lambda. Handlers behind it are in one of the two apps only: what was checked,\n"
            "planned and deployed is not what will run."
        ),
        before=(
            "if not os.environ.get('AWS_CHALICE_CLI_MODE'):\n\n"
            "    @app.on_ws_message()\n"
            "    def message(event):\n"
            "        ..."
        ),
        after="@app.on_ws_message()\ndef message(event):\n    ...",
        allow=(
            "It is a warning. Guarding clients and connections with the variable is fine;\n"
            "guarding handlers is not."
        ),
    ),
    Rule(
        name="second-app",
        title="There is a further Chalice object that is not deployed",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "Chalice deploys the object named `app` in `app.py`, and nothing else.\n"
            "Routes, handlers and opt-ins of another `Chalice` object are silently left out."
        ),
        before="app = Chalice(app_name='orders')\nadmin = Chalice(app_name='admin')",
        after=(
            "app = Chalice(app_name='orders')\nadmin = Blueprint(__name__)\n"
            "app.register_blueprint(admin)"
        ),
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="websocket-domain-unused",
        title="A WebSocket domain is configured, but there is no WebSocket API",
        group=Group.EXPERIMENTAL,
        severity=Severity.WARNING,
        explanation=(
            "Chalice ignores `websocket_api_custom_domain` without a word when no\n"
            "`@app.on_ws_...` handler is registered in the stage."
        ),
        before='{"stages": {"dev": {"websocket_api_custom_domain": {"domain_name": "…"}}}}',
        after='{"stages": {"dev": {}}}',
        language="json",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
)

_VALIDATION = (
    Rule(
        name="chalice-validation",
        title="Chalice's own validation refuses the app",
        group=Group.VALIDATION,
        severity=Severity.ERROR,
        explanation=(
            "Before a deployment Chalice validates routes, CORS, content types, function names,\n"
            "roles, endpoint type, architecture, compression, queues and variables.\n"
            "It stops at the first problem; `chalice package` skips most of it."
        ),
        before="@app.route('/orders/')\ndef orders():\n    ...",
        after="@app.route('/orders')\ndef orders():\n    ...",
        allow=_NEVER,
    ),
    Rule(
        name="authorizer-renamed",
        title="A blueprint's name prefix renames an authorizer that its routes ask for",
        group=Group.VALIDATION,
        severity=Severity.ERROR,
        explanation=(
            "`register_blueprint(..., name_prefix=...)` puts the prefix before the name of each\n"
            "function of the blueprint, authorizers too. Its routes keep the authorizer's own\n"
            "name, and Chalice's validation does not compare the two.\n"
            "`chalice deploy` then makes roles and functions and stops with a KeyError before the\n"
            "REST API; or, when the app has another authorizer of the old name, that one guards\n"
            "the routes. The places are those of the authorizers."
        ),
        before=(
            "admin = Blueprint(__name__)\n\n\n"
            "@admin.authorizer()\n"
            "def gate(request):\n"
            "    ...\n\n\n"
            "app.register_blueprint(admin, name_prefix='admin_')"
        ),
        after=(
            "admin = Blueprint(__name__)\n\n\n"
            "@admin.authorizer()\n"
            "def admin_gate(request):\n"
            "    ...\n\n\n"
            "app.register_blueprint(admin)"
        ),
        allow=_NEVER,
    ),
)

_COLLISIONS = (
    Rule(
        name="preview-s3-trigger",
        title="A preview stage would share the notification of a bucket",
        group=Group.COLLISIONS,
        severity=Severity.ERROR,
        explanation=(
            "A bucket has one notification configuration, and S3 refuses overlapping rules in it:\n"
            "a second stage with the same bucket and events fails halfway through its deployment,\n"
            "or both stages get the same objects. Every preview would bind the same bucket."
        ),
        before="@app.on_s3_event(bucket='uploads')\ndef handle(event):\n    ...",
        after=(
            "if 'UPLOADS_BUCKET' in os.environ:  # not set in the stage that previews are like\n\n"
            "    @app.on_s3_event(bucket=os.environ['UPLOADS_BUCKET'])\n"
            "    def handle(event):\n"
            "        ..."
        ),
        allow=(
            "Give previews a stage of their own in `.chalice/config.json` (`preview: {like: …}`)\n"
            "whose variables leave the trigger out, or let the bucket's name contain the stage's.\n"
            "`preview: {shared-triggers: true}` in `chalice-ci.yml` makes it a warning."
        ),
    ),
    Rule(
        name="preview-queue",
        title="A preview stage would take messages away from another stage",
        group=Group.COLLISIONS,
        severity=Severity.ERROR,
        explanation=(
            "The name of a queue is the same in every stage like this one, and consumers of one\n"
            "queue compete: each message reaches only one of them. A preview would take messages\n"
            "away from the stage that it is like, and what its unmerged code does with them is\n"
            "done for good."
        ),
        before="@app.on_sqs_message(queue='orders')\ndef handle(event):\n    ...",
        after=(
            "if 'ORDERS_QUEUE' in os.environ:  # not set in the stage that previews are like\n\n"
            "    @app.on_sqs_message(queue=os.environ['ORDERS_QUEUE'])\n"
            "    def handle(event):\n"
            "        ..."
        ),
        allow=(
            "Give previews a stage of their own in `.chalice/config.json` (`preview: {like: …}`)\n"
            "whose variables leave the trigger out, or let the queue's name contain the stage's.\n"
            "`preview: {shared-triggers: true}` in `chalice-ci.yml` makes it a warning."
        ),
    ),
    Rule(
        name="preview-shared-trigger",
        title="A preview stage would consume the events of another stage",
        group=Group.COLLISIONS,
        severity=Severity.WARNING,
        explanation=(
            "The name of a topic or stream is the same in every stage like this one. SNS topics,\n"
            "Kinesis and DynamoDB streams and rules of EventBridge deliver to all of them: the\n"
            "work is done once per open preview. Queues and buckets are told so where\n"
            "`preview: {shared-triggers: true}` lets previews share them."
        ),
        before="@app.on_sns_message(topic='orders')\ndef handle(event):\n    ...",
        after=(
            "if 'ORDERS_TOPIC' in os.environ:  # not set in the stage that previews are like\n\n"
            "    @app.on_sns_message(topic=os.environ['ORDERS_TOPIC'])\n"
            "    def handle(event):\n"
            "        ..."
        ),
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="preview-schedule",
        title="A schedule runs in every preview stage",
        group=Group.COLLISIONS,
        severity=Severity.WARNING,
        explanation=(
            "Every preview stage gets a rule of its own, so a scheduled function runs once per\n"
            "open pull request, with the data and the side effects of the stage it is like."
        ),
        before="@app.schedule('rate(1 hour)')\ndef bill(event):\n    ...",
        after=(
            "if os.environ.get('BILLING') == 'on':\n\n"
            "    @app.schedule('rate(1 hour)')\n"
            "    def bill(event):\n"
            "        ..."
        ),
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="preview-domain",
        title="A preview stage goes without the custom domain",
        group=Group.COLLISIONS,
        severity=Severity.NOTICE,
        explanation=(
            "A domain name exists once and points at one stage. A preview that took it would\n"
            "redirect that stage's domain to itself, and delete the domain when the pull request\n"
            "closes. So it is left out of every preview, which answers at its own URL."
        ),
        before=(
            '{"stages": {"dev": {"api_gateway_custom_domain": {"domain_name": "dev.example.org"}}}}'
        ),
        after=(
            '{"stages": {\n'
            '  "dev": {"api_gateway_custom_domain": {"domain_name": "dev.example.org"}},\n'
            '  "preview": {}\n'
            "}}"
        ),
        language="json",
        allow=(
            "It is a notice. Previews that are like a stage of their own without a domain\n"
            "(`preview: {like: preview}`) are silent about it."
        ),
    ),
    Rule(
        name="shared-domain",
        title="Two stages have the same custom domain",
        group=Group.COLLISIONS,
        severity=Severity.ERROR,
        explanation=(
            "A domain name exists once per account and region. Two stages with the same one\n"
            "overwrite each other's mapping, and deleting one stage deletes the domain of both.\n"
            "Stages whose accounts or regions differ in `chalice-ci.yml` do not collide."
        ),
        before=(
            '{"api_gateway_custom_domain": {"domain_name": "api.example.org"},\n'
            ' "stages": {"dev": {}, "prod": {}}}'
        ),
        after=(
            '{"stages": {\n'
            '  "dev": {"api_gateway_custom_domain": {"domain_name": "dev.example.org"}},\n'
            '  "prod": {"api_gateway_custom_domain": {"domain_name": "api.example.org"}}\n'
            "}}"
        ),
        language="json",
        allow="Say in `chalice-ci.yml` that the stages live in different accounts or regions.",
    ),
)

_LAZY_BEFORE = (
    "import boto3\n\nTOKEN = boto3.client('ssm').get_parameter(Name='/token')['Parameter']['Value']"
)
_LAZY_AFTER = (
    "import functools\n\nimport boto3\n\n\n"
    "@functools.cache\n"
    "def token():\n"
    "    return boto3.client('ssm').get_parameter(Name='/token')['Parameter']['Value']"
)

_LOAD = (
    Rule(
        name="load-import-error",
        title="The app could not be imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Importing `app.py` raised an error. For a missing module: add it to\n"
            "`requirements.txt` (boto3 is there, as in Lambda), put it into `vendor/`, or into\n"
            "`chalicelib/` when it is the app's own. Modules beside `app.py` are not packaged."
        ),
        before="# requirements.txt is empty\nimport requests",
        after="# requirements.txt: requests==2.32.5\nimport requests",
        allow=_NEVER,
    ),
    Rule(
        name="load-syntax-error",
        title="The app is not valid Python",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The app's own Python cannot parse a file. Python 2 code, and syntax of a newer\n"
            "Python than the app's, end here too: the version comes from `python` in\n"
            "`chalice-ci.yml`, from `.python-version` or from the Python that runs."
        ),
        before="print 'hello'",
        after="print('hello')",
        allow=_NEVER,
    ),
    Rule(
        name="load-system-exit",
        title="The app ends the process while it is imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "`sys.exit`, `exit` or `os._exit` at import ends Chalice and, in Lambda, every cold\n"
            "start. Move it below `if __name__ == '__main__':` or raise an error that says why."
        ),
        before="if 'DB_URL' not in os.environ:\n    sys.exit('DB_URL is missing')",
        after="DB_URL = os.environ.get('DB_URL')  # checked where it is used",
        allow=_NEVER,
    ),
    Rule(
        name="load-missing-app",
        title="There is no `app` in `app.py`",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Chalice imports the module `app` and takes the object named `app` from it.\n"
            "The folder needs an `app.py` and in it a `Chalice` object of that name."
        ),
        before="api = Chalice(app_name='orders')",
        after="app = Chalice(app_name='orders')",
        allow="The app's folder is `path` in `chalice-ci.yml`.",
    ),
    Rule(
        name="load-wrong-type",
        title="`app` is not a Chalice object",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The object named `app` in `app.py` is something else: a Flask app, a blueprint, a\n"
            "function that makes the app, or a name that was bound again further down."
        ),
        before="def app():\n    return Chalice(app_name='orders')",
        after="app = Chalice(app_name='orders')",
        allow=_NEVER,
    ),
    Rule(
        name="load-network",
        title="The app uses the network while it is imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The app is loaded without network and without credentials, so that its code can\n"
            "neither read nor send a secret. Load what comes from outside when it is first\n"
            "needed: that also makes cold starts faster and tests possible without AWS."
        ),
        before=_LAZY_BEFORE,
        after=_LAZY_AFTER,
        allow=(
            "`apps: {orders: {load: {network: true}}}` in `chalice-ci.yml` gives this app the\n"
            "network while it is loaded, still without credentials."
        ),
    ),
    Rule(
        name="load-credentials",
        title="The app needs AWS credentials while it is imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Credentials are never given to the process that runs the app's code.\n"
            "Make clients and calls when they are first needed, not at import."
        ),
        before=_LAZY_BEFORE,
        after=_LAZY_AFTER,
        allow="There is no way to hand credentials to an app that is being loaded.",
    ),
    Rule(
        name="load-region",
        title="The app needs an AWS region while it is imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The stage's region is set while the app is loaded. This app clears or ignores it.\n"
            "Name the region where the client is made, or set it for the stage."
        ),
        before="stages:\n  dev: {}",
        after="stages:\n  dev: {region: eu-west-1}",
        language="yaml",
        allow="Set `region` for the stage in `chalice-ci.yml`, or `aws-region`.",
    ),
    Rule(
        name="load-timeout",
        title="The app did not finish importing in time",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Importing an app takes a second or two; Lambda itself allows ten seconds for it.\n"
            "An endless loop, a server that is started, or a wait for another machine at import\n"
            "ends here. The place is where the app was when it was stopped."
        ),
        before="while not queue.ready():\n    time.sleep(1)",
        after="def ready():\n    return queue.ready()  # asked by the handler",
        allow=_NEVER,
    ),
    Rule(
        name="load-killed",
        title="The process that loaded the app was killed",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "It died from a signal: a crash in a compiled dependency, the machine's memory,\n"
            "a limit on processes or files, or the app killing itself. Nothing of what it found\n"
            "is left, so the app's own output is the only trace."
        ),
        before="if not TABLE:\n    os.abort()",
        after="if not TABLE:\n    raise RuntimeError('the variable TABLE is not set')",
        allow=_NEVER,
    ),
    Rule(
        name="load-memory",
        title="The app needs too much memory while it is imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Importing the app passed the limit on memory. Load models and large tables when they\n"
            "are first needed: Lambda counts this memory too."
        ),
        before="MODEL = pickle.load(open('model.bin', 'rb'))",
        after="@functools.cache\ndef model():\n    return pickle.load(open('model.bin', 'rb'))",
        allow=_NEVER,
    ),
    Rule(
        name="load-chalice",
        title="Chalice cannot build the app",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The app was imported, but the app's own Chalice raised an error while it read the\n"
            "configuration or built the application from it: `chalice deploy` would end there\n"
            "too. Here, `policy-dev.json` is not there."
        ),
        before='{"stages": {"dev": {"autogen_policy": false}}}',
        after=('{"stages": {"dev": {"autogen_policy": false, "iam_policy_file": "policy.json"}}}'),
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="load-forged",
        title="The loaded app's answer is not one that the loader gives",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Code of the app runs in the same process as the loader and can write its answer.\n"
            "What comes back is checked against a closed description of what Chalice can produce;\n"
            "this answer is something else, so nothing in it is used. Code that writes to file\n"
            "descriptors that it did not open, or that replaces parts of Chalice, ends here."
        ),
        before="os.write(4, b'ready')  # whoever opened that descriptor",
        after="print('ready')",
        allow=_NEVER,
    ),
    Rule(
        name="load-exception",
        title="The app raised an error while it was imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Code at the top level of the app ended with an error that has no rule of its own.\n"
            "The app is loaded without credentials, network and secrets, as a test would load it:\n"
            "what depends on those belongs into the function that needs it."
        ),
        before="CONFIG = json.load(open('config.json'))",
        after=(
            "CONFIG = json.loads(\n"
            "    (pathlib.Path(__file__).parent / 'chalicelib' / 'config.json').read_text()\n"
            ")"
        ),
        allow=_NEVER,
    ),
    Rule(
        name="load-environment",
        title="The app needs an environment variable that is not set",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The app reads `os.environ['NAME']` at import and the stage does not set it.\n"
            "The stage's variables are those of `.chalice/config.json`, and those that\n"
            "`environment-variables` in `chalice-ci.yml` takes from secrets (placeholders here).\n"
            "Variables of the CI job never reach the app."
        ),
        before='{"stages": {"dev": {}}}',
        after='{"stages": {"dev": {"environment_variables": {"TABLE": "orders-dev"}}}}',
        language="json",
        allow="Set the variable for the stage, or read it with `os.environ.get`.",
    ),
    Rule(
        name="load-filesystem",
        title="The app writes files while it is imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The app runs on a copy of its folder and cannot write or read outside of it;\n"
            "in Lambda only `/tmp` is writable."
        ),
        before="open('/var/log/orders.log', 'a')",
        after="logging.getLogger('orders')  # Lambda writes the log",
        allow=_NEVER,
    ),
    Rule(
        name="load-cpu",
        title="The app used up its processor time while it was imported",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "Importing the app computes without end, or far longer than Lambda's ten seconds.\n"
            "The place is where the app was when it was stopped."
        ),
        before="PRIMES = [n for n in range(10**8) if is_prime(n)]",
        after="@functools.cache\ndef primes():\n    ...",
        allow=_NEVER,
    ),
    Rule(
        name="load-configuration",
        title="Chalice cannot read the app's configuration",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "`.chalice/config.json` is not valid JSON, not an object, of a version that this\n"
            "Chalice does not know, or has an environment variable that is not text."
        ),
        before='{"stages": {"dev": {"environment_variables": {"DEBUG": true}}}}',
        after='{"stages": {"dev": {"environment_variables": {"DEBUG": "true"}}}}',
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="load-too-large",
        title="The description of the app is too large",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "What the loader found does not fit into the 16 MiB that are read from it: far more\n"
            "routes and functions than an account can hold. Mostly a loop makes them, where a\n"
            "parameter in the path was meant."
        ),
        before="for number in range(100_000):\n    app.route(f'/items/{number}')(item)",
        after="@app.route('/items/{number}')\ndef item(number):\n    return {}",
        allow=_NEVER,
    ),
    Rule(
        name="variables-withheld",
        title="The app was loaded without some of its stage's variables",
        group=Group.LOAD,
        severity=Severity.NOTICE,
        explanation=(
            "Variables such as `PYTHONPATH`, `LD_PRELOAD`, `AWS_ENDPOINT_URL` or `HTTPS_PROXY`\n"
            "change the interpreter, the loader or where the SDK sends its requests. The deployed\n"
            "functions get them; the process that loads the app does not."
        ),
        before='{"stages": {"dev": {"environment_variables": {"PYTHONPATH": "lib"}}}}',
        after='{"stages": {"dev": {}}}',
        language="json",
        allow="It is a notice: it never fails the build.",
    ),
    Rule(
        name="load-failed",
        title="The app could not be loaded",
        group=Group.LOAD,
        severity=Severity.ERROR,
        explanation=(
            "The app was not even started: it is copied first, and its folder holds more files\n"
            "or bytes than are copied; or the process that loads it could not be shut in, and\n"
            "there are credentials beside it. The finding says which of the two, and the limit."
        ),
        before="apps:\n  orders: {path: .}  # the whole repository, with its data",
        after="apps:\n  orders: {path: services/orders}  # the folder of app.py",
        language="yaml",
        allow="`allow-unsandboxed` loads an app where nothing shuts it in.",
    ),
)

_CONFIGURATION = (
    Rule(
        name="config",
        title="`chalice-ci.yml` is wrong",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "An unknown key, a wrong type, a duplicate key or a name that is not allowed.\n"
            "All problems are listed at once, with line and column."
        ),
        before="stages:\n  dev: {deploy_on: {branch: main}}",
        after="stages:\n  dev: {deploy-on: {branch: main}}",
        language="yaml",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-missing",
        title="There is no `.chalice/config.json`",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Chalice needs the file for the app's name and stages, and does not start without it.\n"
            "When the folder holds state of earlier deployments, the file was there once and was\n"
            "not committed; its `app_name` and stages make the names of the deployed resources,\n"
            "so the finding proposes those that the state names."
        ),
        before=".chalice/deployed/dev.json",
        after=(
            '.chalice/config.json:\n{"version": "2.0", "app_name": "orders", "stages": {"dev": {}}}'
        ),
        language="text",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-syntax",
        title="`.chalice/config.json` is not valid JSON",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Comments, trailing commas, single quotes, merge markers, a byte order mark: Chalice\n"
            "refuses the file. The finding has the line and column."
        ),
        before='{"stages": {"dev": {},}}',
        after='{"stages": {"dev": {}}}',
        language="text",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-duplicate-key",
        title="A key stands twice in the same object of `.chalice/config.json`",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Chalice takes the last one and silently forgets the others: what somebody wrote\n"
            "further up, and reviewed, does not hold."
        ),
        before='{"lambda_timeout": 10, "lambda_timeout": 60}',
        after='{"lambda_timeout": 60}',
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-type",
        title="A value in `.chalice/config.json` has the wrong type",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            'Chalice checks next to no types: `"false"` counts as true, a number among the\n'
            "environment variables ends in a bare TypeError, text instead of a number is refused\n"
            "by AWS in the middle of a deployment."
        ),
        before='{"automatic_layer": "false", "environment_variables": {"LIMIT": 5}}',
        after='{"automatic_layer": false, "environment_variables": {"LIMIT": "5"}}',
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-value",
        title="A value in `.chalice/config.json` is not one that works",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "The value is outside of what Chalice or AWS take. Limits that AWS raises now\n"
            "and then (memory, timeout, days of retention) are warnings."
        ),
        before='{"api_gateway_endpoint_type": "regional"}',
        after='{"api_gateway_endpoint_type": "REGIONAL"}',
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-version",
        title="Chalice does not know the version of `.chalice/config.json`",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "It is the version of the file's format, not the app's, and at most 2.0. Chalice\n"
            "stops with an error when it is higher."
        ),
        before='{"version": "3.1"}',
        after='{"version": "2.0"}',
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-app-name",
        title="`app_name` is missing or cannot name AWS resources",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Every resource is called `<app_name>-<stage>…`. Without the key Chalice calls them\n"
            "`None-<stage>`, so that two such apps overwrite each other; blanks and other\n"
            "characters are refused by Lambda."
        ),
        before='{"app_name": "my orders"}',
        after='{"app_name": "my-orders"}',
        language="json",
        allow='An app that is deployed as `None-dev` keeps its names with `"app_name": "None"`.',
    ),
    Rule(
        name="config-json-misplaced-key",
        title="A key of `.chalice/config.json` stands where Chalice ignores it",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Some keys hold for the whole app, some for a stage, some for single functions.\n"
            "Elsewhere Chalice ignores them without a word: a function's variables at the top of\n"
            "the file never reach it. `version` and `app_name` inside a stage are warnings."
        ),
        before='{"lambda_functions": {"worker": {"environment_variables": {"A": "b"}}}}',
        after=(
            '{"stages": {"dev": {"lambda_functions":\n'
            '  {"worker": {"environment_variables": {"A": "b"}}}}}}'
        ),
        language="json",
        allow=_NEVER,
    ),
    Rule(
        name="config-json-unknown-key",
        title="Chalice does not know a key of `.chalice/config.json`",
        group=Group.CONFIGURATION,
        severity=Severity.WARNING,
        explanation=(
            "Chalice ignores keys that it does not know, so a misspelt one does nothing.\n"
            "Keys that begin with `//`, `#`, `_comment` or `$schema` are taken for comments."
        ),
        before='{"lambda_timeuot": 60}',
        after='{"lambda_timeout": 60}',
        language="json",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="config-json-unknown-function",
        title="`.chalice/config.json` has settings for a function that the app does not have",
        group=Group.CONFIGURATION,
        severity=Severity.WARNING,
        explanation=(
            "Chalice ignores the entry. Functions are called by their `name=` or by the Python\n"
            "function; `api_handler` serves all routes, `websocket_connect`, `websocket_message`\n"
            "and `websocket_disconnect` the WebSocket API."
        ),
        before='{"stages": {"dev": {"lambda_functions": {"wroker": {"lambda_timeout": 60}}}}}',
        after='{"stages": {"dev": {"lambda_functions": {"worker": {"lambda_timeout": 60}}}}}',
        language="json",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="config-json-app-name-differs",
        title="`app_name` is not the one in `app.py`",
        group=Group.CONFIGURATION,
        severity=Severity.WARNING,
        explanation=(
            "The AWS resources are called after the `app_name` of `.chalice/config.json`, the API\n"
            "in its console after the one in `app.py`."
        ),
        before="app = Chalice(app_name='order')  # config.json: \"orders\"",
        after="app = Chalice(app_name='orders')",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="config-json-secret",
        title="A secret seems to stand in `.chalice/config.json`",
        group=Group.CONFIGURATION,
        severity=Severity.WARNING,
        explanation=(
            "A variable has a secret's name (`DB_PASSWORD`) or the shape of a known token.\n"
            "Everybody who can read the repository can read it, in every commit from now on.\n"
            "The value is never shown. ARNs, paths of parameters and placeholders do not count."
        ),
        before='{"environment_variables": {"DB_PASSWORD": "…"}}',
        after=(
            "# chalice-ci.yml\n"
            "stages:\n"
            "  prod: {environment-variables: {DB_PASSWORD: {secret: DB_PASSWORD}}}"
        ),
        language="yaml",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="config-json-stage-missing",
        title="A stage is not in `.chalice/config.json`",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Chalice deploys a stage that it does not know with the settings at the top of the\n"
            "file: a misspelt name creates a whole new set of resources.\n"
            "`dev` needs no entry when the file has no stages at all: it is Chalice's default."
        ),
        before='{"stages": {"dev": {}}}',
        after='{"stages": {"dev": {}, "prod": {}}}',
        language="json",
        allow="Add the stage, an empty object is enough.",
    ),
    Rule(
        name="config-json-stage-name",
        title="A stage of `.chalice/config.json` has a name that cannot be used here",
        group=Group.CONFIGURATION,
        severity=Severity.WARNING,
        explanation=(
            "Names of stages are part of file and resource names: letters, digits, `-` and `_`.\n"
            "`pr-` with a number is kept for previews. The other stages are not touched by this."
        ),
        before='{"stages": {"pr-7": {}}}',
        after='{"stages": {"preview": {}}}',
        language="json",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="aws-name-too-long",
        title="The name of an AWS resource would be too long",
        group=Group.CONFIGURATION,
        severity=Severity.ERROR,
        explanation=(
            "Functions, roles and rules are called `<app>-<stage>-<function>` and have at most 64\n"
            "characters, rules end in `-event` besides. Chalice checks none of it, and AWS\n"
            "refuses in the middle of the deployment. With previews, `pr-99999` must fit as well."
        ),
        before='{"app_name": "the-orders-and-invoices-of-our-european-shops"}',
        after='{"app_name": "eu-orders"}',
        language="json",
        allow=_NEVER,
    ),
)

_ENVIRONMENT = (
    Rule(
        name="python-version",
        title="The app's Python is not one that can be used",
        group=Group.ENVIRONMENT,
        severity=Severity.ERROR,
        explanation=(
            "The app's Python comes from `python-path`, from `python` in `chalice-ci.yml`, from\n"
            "`.python-version`, or is the one that runs. It becomes the runtime in Lambda, so it\n"
            "has to be one that Lambda and the app's Chalice have, and it has to be on the machine."
        ),
        before='apps:\n  orders: {path: ., python: "3.8"}',
        after='apps:\n  orders: {path: ., python: "3.12"}',
        language="yaml",
        allow=_NEVER,
    ),
    Rule(
        name="chalice-version",
        title="The app's Chalice is not one that is supported",
        group=Group.ENVIRONMENT,
        severity=Severity.ERROR,
        explanation=(
            "The Chalice that the app pins loads and deploys it. Supported are the releases whose\n"
            "deployments were compared with Chalice's own, each on the Pythons that it runs on."
        ),
        before='# requirements.txt: chalice==1.12.0\napps:\n  orders: {path: "."}',
        after='apps:\n  orders: {path: ".", chalice: "1.34.0"}',
        language="yaml",
        allow="Override the version with `chalice` for the app in `chalice-ci.yml`, or upgrade.",
    ),
    Rule(
        name="load-dependency",
        title="A dependency is missing or different while the app is loaded",
        group=Group.ENVIRONMENT,
        severity=Severity.WARNING,
        explanation=(
            "The app is loaded beside its own Chalice, in an environment of its own: wheels only,\n"
            "because building a distribution runs its code. What has no wheel is left out, and\n"
            "that is a warning. A pin that cannot be had beside Chalice is loosened: a notice.\n"
            "The package is resolved for itself: there the pins hold, and what is missing fails."
        ),
        before="# requirements.txt\n# cryptography==2.1.4",
        after="# requirements.txt\n# cryptography==45.0.7",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
)

_MOVED = "It is a warning: it does not fail the build unless `fail-on` says so."

_UPGRADE = (
    Rule(
        name="route-parameter-names",
        title="A route's parameters are not called like the view's arguments",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "Since Chalice 1.0.0b2 a view gets the parameters of its path by name, before it got\n"
            "them in their order. Names that differ deploy without a word, and every request is\n"
            "answered with status 500. Their order does not matter any more.\n"
            "A view below a decorator that is not Chalice's is left alone: it may have other\n"
            "arguments than it shows."
        ),
        before="@app.route('/orders/{order_id}')\ndef order(id):\n    return {}",
        after="@app.route('/orders/{order_id}')\ndef order(order_id):\n    return {}",
        allow=_NEVER,
    ),
    Rule(
        name="define-authorizer",
        title="`define_authorizer` is gone",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "Chalice 0.8.1 deprecated it for authorizer objects, 1.0.0b1 removed it: importing\n"
            "the app ends in an AttributeError."
        ),
        before=(
            "app.define_authorizer(\n"
            "    name='users', header='Authorization', auth_type='cognito_user_pools',\n"
            "    provider_arns=[POOL],\n"
            ")"
        ),
        after="users = CognitoUserPoolAuthorizer('users', provider_arns=[POOL])",
        allow=_NEVER,
    ),
    Rule(
        name="authorizer-name",
        title="A route names its authorizer by text",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "`authorizer_name` went with `define_authorizer` in Chalice 1.0.0b1: a route takes\n"
            "the authorizer itself, and importing the app ends in a TypeError."
        ),
        before="@app.route('/orders', authorizer_name='users')\ndef orders():\n    return []",
        after="@app.route('/orders', authorizer=users)\ndef orders():\n    return []",
        allow=_NEVER,
    ),
    Rule(
        name="authorizer-id",
        title="A route names its authorizer by API Gateway's id",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "Since Chalice 0.7.0 the whole API is one document, made from the app: an authorizer\n"
            "that exists in API Gateway only cannot be named. `authorizer_id` and\n"
            "`authorization_type` end in a TypeError when the app is imported."
        ),
        before=(
            "@app.route('/orders', authorization_type='CUSTOM', authorizer_id='ab12cd')\n"
            "def orders():\n"
            "    return []"
        ),
        after=(
            "gate = CustomAuthorizer('gate', authorizer_uri=GATE)\n\n\n"
            "@app.route('/orders', authorizer=gate)\n"
            "def orders():\n"
            "    return []"
        ),
        allow=_NEVER,
    ),
    Rule(
        name="raw-body-text",
        title="The raw body of a request is used as text",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "Since Chalice 0.9.0 `raw_body` is bytes, because bodies can be binary. Split, joined\n"
            "or searched with text it raises a TypeError while the request is answered; compared\n"
            "with text it is never equal. What only makes another text (`f'{raw_body}'`, the keys\n"
            "of `parse_qs`) is a warning. `json.loads`, `hmac` and `base64` take bytes."
        ),
        before="fields = app.current_request.raw_body.split('&')",
        after="fields = app.current_request.raw_body.decode('utf-8').split('&')",
        allow=_NEVER,
    ),
    Rule(
        name="deploy-positional-stage",
        title="A script gives `chalice deploy` its stage without `--stage`",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "The argument named the stage of API Gateway, was deprecated in Chalice 0.7.0 and is\n"
            "gone since 1.0.0b1: the command ends with exit code 2. Looked through are workflows,\n"
            "CI files, Makefiles, `package.json`, `tox.ini`, Dockerfiles and shell scripts of the\n"
            "repository. A stage of Chalice's is meant most of the time."
        ),
        before="chalice deploy prod",
        after="chalice deploy --stage prod",
        language="console",
        allow=_NEVER,
    ),
    Rule(
        name="policy-json",
        title="`.chalice/policy.json` is not read",
        group=Group.UPGRADE,
        severity=Severity.ERROR,
        explanation=(
            "Since Chalice 0.7.0 each stage has a role and a policy of its own, in\n"
            "`.chalice/policy-<stage>.json`; 1.0.0b2 stopped reading `policy.json` for dev.\n"
            "Where the stage's own file is missing and `autogen_policy` is false, Chalice cannot\n"
            "deploy. Where another file is read, it is a warning, because somebody may change\n"
            "this one and believe in it; where the policy is generated, a notice."
        ),
        before='{"autogen_policy": false, "stages": {"dev": {}}}',
        after=(
            '{"stages": {"dev": {"autogen_policy": false, "iam_policy_file": "policy-dev.json"}}}'
        ),
        language="json",
        allow="Name the file in config.json: `iam_policy_file` may be any file in `.chalice`.",
    ),
    Rule(
        name="v1-state",
        title="The stage is recorded in the file of an old Chalice",
        group=Group.UPGRADE,
        severity=Severity.WARNING,
        explanation=(
            "Chalice before 1.2 kept all stages in `.chalice/deployed.json`. The first deployment\n"
            "converts the stage's part and never writes that file again, so an older Chalice\n"
            "cannot be used after it. Roles and rules are not in the old file: they are found by\n"
            "their names."
        ),
        before="ls .chalice  # config.json  deployed.json",
        after="chalice-ci state import .chalice/deployed.json --stage dev",
        language="console",
        allow="Import it, commit that `.chalice/deployed.json` is removed; until then it is said.",
    ),
    Rule(
        name="resource-names",
        title="What is deployed is not called `<app>-<stage>`",
        group=Group.UPGRADE,
        severity=Severity.WARNING,
        explanation=(
            "Since Chalice 0.7.0 every resource is called after the app and the stage, and looked\n"
            "for under that name. What was deployed under another one (by an older Chalice, or\n"
            "before `app_name` was changed) is not updated: the next deployment makes a new\n"
            "function. Plain Chalice then forgets the old one, or deletes it when it stands\n"
            "among the `lambda_functions` of the old state file; chalice-ci refuses to touch what\n"
            "does not carry the app's name."
        ),
        before='{"dev": {"api_handler_name": "orders"}}',
        after='{"dev": {"api_handler_name": "orders-dev"}}',
        language="json",
        allow=_MOVED,
    ),
    Rule(
        name="python-dropped",
        title="A script or CI file asks for a Python that the app's Chalice dropped",
        group=Group.UPGRADE,
        severity=Severity.WARNING,
        explanation=(
            "Chalice dropped 2.7 in 1.24.0, 3.6 and 3.7 in 1.31.0, 3.8 in 1.32.0 and 3.9 in\n"
            "1.33.0. There the newest Chalice cannot be installed, or it deploys for a newer\n"
            "runtime than the one that it runs on. Only files count that use Chalice, and an\n"
            "older `.python-version` or `Pipfile`: which environment they install is not known,\n"
            "so it is a warning. The app's own Python is the rule `python-version`."
        ),
        before="# .github/workflows/deploy.yml\nwith: {python-version: '3.8'}",
        after="# .github/workflows/deploy.yml\nwith: {python-version: '3.12'}",
        language="yaml",
        allow=_MOVED,
    ),
)

_PACKAGE = (
    Rule(
        name="requirements",
        title="A line of requirements.txt cannot be used",
        group=Group.PACKAGE,
        severity=Severity.ERROR,
        explanation=(
            "The line is not a requirement, includes a file outside of the repository, or is an\n"
            "option or address that would run code or read files while dependencies are resolved."
        ),
        before="# requirements.txt\n# -e git+ssh://git@example.org/lib.git#egg=lib",
        after="# requirements.txt\n# lib==1.4.2",
        allow=_NEVER,
    ),
    Rule(
        name="requirements-ignored",
        title="An empty requirements.txt hides the project's dependencies",
        group=Group.PACKAGE,
        severity=Severity.WARNING,
        explanation=(
            "`requirements.txt` counts where there is one, as in Chalice, whose `new-project`\n"
            "writes an empty one. Then what `uv.lock` or `pyproject.toml` name is not packaged."
        ),
        before="chalice new-project orders  # makes an empty requirements.txt\nuv add requests",
        after="git rm requirements.txt",
        language="sh",
        allow="Write a requirement into `requirements.txt`, or let the project have no "
        "dependencies.",
    ),
)

_COMMITTED = (
    Rule(
        name="uncommitted-changes",
        title="What is deployed is not what is committed",
        group=Group.PACKAGE,
        severity=Severity.WARNING,
        explanation=(
            "Files of the app differ from the commit that is checked out, so the record would\n"
            "name a commit that was not deployed, and nobody could build the same again."
        ),
        before="git status  # modified: app.py",
        after="git commit --all --message 'Change the greeting'",
        language="console",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
)

_DIFFERENCE = (
    Rule(
        name="destructive-change",
        title="A deployment takes away what holds an address or data",
        group=Group.DIFFERENCE,
        severity=Severity.ERROR,
        explanation=(
            "A REST or WebSocket API, a domain, a role or a function that is deleted or replaced\n"
            "takes its address, its name or its ARN with it, and a new one gets another.\n"
            "Also a changed endpoint type, API stage or `app_name` does that.\n"
            "The plan can be read; applying it is refused (exit code 16) until somebody lets it."
        ),
        before='"app_name": "orders"      # every name in AWS begins with it',
        after='"app_name": "orders"      # kept; or: the label allow-delete:prod',
        language="text",
        allow=(
            "Give the pull request the label `allow-delete:<stage>`, or set the input\n"
            "`allow-destructive: true` for that run; `allow-destructive: true` at the stage in\n"
            "chalice-ci.yml lets every deployment of it. Previews need none of them."
        ),
    ),
    Rule(
        name="widened-iam",
        title="A deployment lets the functions do more in AWS than they may now",
        group=Group.DIFFERENCE,
        severity=Severity.ERROR,
        explanation=(
            "A role permits an action on a resource that it did not permit, `*` comes into a\n"
            "policy, a Deny goes, or a function gets a role that permits more, or one of which\n"
            "nothing here tells what it permits. A policy that Chalice generates and one in a\n"
            "file are the same in this.\n"
            "The plan can be read; applying it is refused (exit code 16) until somebody lets it.\n"
            "Asked of stages with an `environment`, and not when a stage is first deployed."
        ),
        before='"Action": "s3:*"             # was "s3:GetObject"',
        after='"Action": "s3:GetObject"     # kept; or: the label allow-iam:prod',
        language="text",
        allow=(
            "Give the pull request the label `allow-iam:<stage>`, or set the input\n"
            "`allow-widened-iam: true` for that run; `allow-widened-iam: true` at the stage in\n"
            "chalice-ci.yml lets every deployment of it, and `false` asks where no environment is."
        ),
    ),
    Rule(
        name="drift",
        title="Something of a deployed stage was changed or removed outside",
        group=Group.DIFFERENCE,
        severity=Severity.WARNING,
        explanation=(
            "The plan of the last release is made again against what is live. What it would do is\n"
            "not as that deployment left it: somebody changed it in the console, or with another\n"
            "tool, or deleted it. `plan` and a scheduled `run` look.\n"
            "The next deployment puts it right, so a change that is wanted has to be in the app."
        ),
        before="memory of `worker`: 512 MB in config.json, 1024 MB in AWS",
        after="memory of `worker`: 1024 MB in config.json and in AWS",
        language="text",
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
    Rule(
        name="provenance",
        title="A live stage is not what its record says",
        group=Group.DIFFERENCE,
        severity=Severity.ERROR,
        explanation=(
            "`state show --verify` compares the recorded release with the code digests that\n"
            "Lambda tells, and with what the recorded commit builds. A difference means that code\n"
            "was put there by something else than a deployment, that the record was changed, or\n"
            "that the package can't be made again because something is not pinned."
        ),
        before="live app package 9f3c1ab..., release 71be2d0...",
        after="live app package 71be2d0..., release 71be2d0...",
        language="text",
        allow="There is nothing to allow: deploy the commit that should be there.",
    ),
)

_REHEARSAL = (
    Rule(
        name="rehearsal-stopped",
        title="A rehearsal on the embedded AWS stopped",
        group=Group.DIFFERENCE,
        severity=Severity.WARNING,
        explanation=(
            "A pull request from a fork gets no credential, so its deployment is rehearsed on an\n"
            "AWS inside the run. That one is no account: what stops there may be its own fault,\n"
            "and may be what an account would refuse too."
        ),
        before='@app.schedule("rate(0 hours)")\ndef often(event):\n    ...',
        after='@app.schedule("rate(1 hour)")\ndef often(event):\n    ...',
        allow="It is a warning: it does not fail the build unless `fail-on` says so.",
    ),
)

_PERMISSIONS = (
    Rule(
        name="policy-missing",
        title="The deploy role may not do what a deployment needs",
        group=Group.PERMISSIONS,
        severity=Severity.ERROR,
        explanation=(
            "`chalice-ci policy --compare` found permissions that a deployment, an update, a\n"
            "deletion or the recovery of this stage needs and that no single statement of the\n"
            "policy grants. AWS refuses in the middle of a deployment then.\n"
            "A permission under a condition that is not needed counts as missing."
        ),
        allow="Nothing needs to be allowed: a warning of a deployment that AWS would refuse.",
        language="json",
        before='{"Action": ["lambda:UpdateFunctionCode"], "Resource": "*"}',
        after='{"Action": ["lambda:GetFunction", "lambda:UpdateFunctionCode"], "Resource": "*"}',
    ),
    Rule(
        name="policy-denied",
        title="A denial may concern what a deployment needs",
        group=Group.PERMISSIONS,
        severity=Severity.ERROR,
        explanation=(
            "A `Deny` wins over every `Allow`. Its action and resource overlap with those that a\n"
            "deployment needs; what its conditions test is not known beforehand."
        ),
        allow="Exclude the deploy role's actions or the stage's resources from the denial.",
        language="json",
        before='{"Effect": "Deny", "Action": "iam:*", "Resource": "*"}',
        after='{"Effect": "Deny", "Action": "iam:*User*", "Resource": "*"}',
    ),
    Rule(
        name="policy-unneeded",
        title="The deploy role may do more than a deployment needs",
        group=Group.PERMISSIONS,
        severity=Severity.WARNING,
        explanation=(
            "Whoever gets hold of the role - another workflow, a stolen token - may do what its\n"
            "policies allow. What no deployment of this stage needs is listed here;\n"
            "`iam:PassRole` on `*` and `iam:CreateRole` without a boundary make an administrator\n"
            "of everyone who may deploy."
        ),
        allow="A role that serves several apps: keep what one of them needs.",
        language="json",
        before='{"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}',
        after=(
            '{"Effect": "Allow", "Action": ["lambda:UpdateFunctionCode"],\n'
            ' "Resource": ["arn:aws:lambda:eu-west-1:123456789012:function:orders-prod",\n'
            '              "arn:aws:lambda:eu-west-1:123456789012:function:orders-prod-*"]}'
        ),
    ),
)

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        *_CONFIGURATION,
        *_ENVIRONMENT,
        *_UPGRADE,
        *_COMMITTED,
        *_LOAD,
        *_EXPERIMENTAL,
        *_VALIDATION,
        *_COLLISIONS,
        *_PACKAGE,
        *_DIFFERENCE,
        *_REHEARSAL,
        *_PERMISSIONS,
        *DOCTOR,
    )
}
"""Every rule by its name, in the order of the documentation."""


def finding(
    rule: str,
    *,
    what: str,
    fix: str = "",
    detail: str = "",
    subject: str = "",
    app: str = "",
    stage: str = "",
    at: Place | None = None,
    link: str = "",
    severity: Severity | None = None,
) -> Finding:
    """A finding of a declared rule, with the rule's severity unless another one is given.

    Raises KeyError for a rule that is not declared.
    """
    declared = RULES[rule]
    return Finding(
        rule=declared.name,
        severity=declared.severity if severity is None else severity,
        what=what,
        fix=fix,
        detail=detail,
        subject=subject,
        app=app,
        stage=stage,
        at=at,
        link=link,
    )


def document() -> str:
    """The text of `docs/findings.md`."""
    lines = [
        "# Findings",
        "",
        "<!-- Generated by `python -m chalice_ci.rules docs/findings.md`. -->",
        "",
        "One section per rule: what it says, why, an example and how to allow it.",
        "An error fails the build, a warning does when `fail-on` is `warning`, a notice never.",
        "",
        "| rule | severity | |",
        "|---|---|---|",
    ]
    lines += [
        f"| [`{rule.name}`](#{rule.name}) | {rule.severity.value} | {rule.title} |"
        for rule in RULES.values()
    ]
    for group in Group:
        members = [rule for rule in RULES.values() if rule.group is group]
        if members:
            lines += ["", f"## {group.value[0].upper()}{group.value[1:]}"]
        for rule in members:
            lines += ["", *_section(rule)]
    return "\n".join(lines) + "\n"


def picture_of(rule: Rule) -> str:
    """Where `docs/pictures/findings.py` draws what is shown of a rule's example, below docs/."""
    return f"pictures/findings/{rule.name}.svg"


def _section(rule: Rule) -> list[str]:
    lines = [
        f"### {rule.name}",
        "",
        f"**{rule.title}** ({rule.severity.value}).",
        "",
        rule.explanation,
    ]
    if rule.before:
        lines += ["", "Before:", "", f"```{rule.language}", rule.before, "```"]
        lines += ["", "What a terminal shows of it:", "", f"![{rule.title}]({picture_of(rule)})"]
        lines += ["", "After:", "", f"```{rule.language}", rule.after, "```"]
    return [*lines, "", f"How to allow it: {rule.allow}"]


def main(arguments: Sequence[str]) -> None:
    """Write the documentation to the file that is named."""
    (target,) = arguments
    Path(target).write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
