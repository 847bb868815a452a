"""`ms-edge monitor`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ms_edge.classifier import Classifier
from ms_edge.cli.options import ClassifierOptions
from ms_edge.errors import UsageError
from ms_edge.jobs.interrupts import INTERRUPTED, Interrupts
from ms_edge.live.actions import Commands, Webhook
from ms_edge.live.events import Event
from ms_edge.live.monitor import Clock, Consumer, Feed, Settings, monitor
from ms_edge.live.printing import Printer, log
from ms_edge.live.prometheus import Metrics
from ms_edge.live.records import Records
from ms_edge.live.rules import Rules, parse_rule
from ms_edge.live.session import plan
from ms_edge.live.sources import parsed
from ms_edge.live.systemd import Notifier
from ms_edge.model.session import Model


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(ClassifierOptions):
    """The options of `ms-edge monitor`; the fields are the options' names."""

    sources: list[str]
    format: str
    stall: float
    give_up: float | None
    delay: float
    alert: list[str]
    exec: str | None
    webhook: str | None
    verbose: bool
    records: str | None
    metrics: str | None
    metrics_port: int | None


def run(options: Options) -> int:
    """Print what happens on live sources until they end, and return the exit status."""
    if os.name == "nt":
        raise UsageError("ms-edge monitor runs on Linux and macOS; on Windows, use ms-edge stream.")
    sources = [parsed(text, options.raw_format(), options.track) for text in options.sources]
    names = [source.name for source in sources]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{repeated} is given more than once; events could not tell one from the other.")
    classifier = options.classifier(Model.load(options.model, options.device))
    plan(classifier, options.delay)  # raises UsageError
    settings = Settings(options.stall, options.give_up, options.chosen_channels(), options.delay)
    clock = Clock()
    consumers: list[Consumer] = []

    def emit(event: Event) -> None:
        for consumer in consumers:
            consumer.take(event)

    alerts = _alerts(options, classifier.model.metadata.labels, emit)
    accounts = [*_accounts(options, classifier)]
    alone = not (accounts or options.exec or options.webhook)
    consumers += [Printer(options.format, several=len(sources) > 1, alone=alone), Notifier(os.environ)]
    consumers += accounts
    consumers += alerts  # last, so that an alert is used after the event that it comes from
    feeds = [Feed(source, classifier, settings, emit, log, clock) for source in sources]
    with Interrupts(message="stopping; interrupt again to stop at once.") as interrupts:
        status = monitor(feeds, consumers, clock, interrupts.stopped)
    if interrupts.unfinished:
        return INTERRUPTED
    return status or int(any(account.lost for account in accounts if isinstance(account, Records)))


def _alerts(options: Options, labels: Sequence[str], emit: Callable[[Event], None]) -> list[Consumer]:
    """Return what acts on alerts, and what raises them."""
    rules = [parse_rule(text, labels) for text in options.alert]
    if not rules and (options.exec or options.webhook):
        raise UsageError("--exec and --webhook act on alerts; give at least one --alert, as in --alert 'no music 60s'.")
    found: list[Consumer] = []
    if options.exec:
        found.append(Commands(options.exec, log))
    if options.webhook:
        found.append(Webhook(options.webhook, log))
    return [*found, Rules(rules, emit)] if rules else []


def _accounts(options: Options, classifier: Classifier) -> Iterator[Consumer]:
    """Yield the consumers that keep records and metrics."""
    if options.records is not None:
        settings = classifier.settings(options.raw_format(), options.chosen_channels())
        model = {"model": classifier.model.sha256, "provider": classifier.model.provider}
        yield Records(options.records, {"settings": {**settings, "delay_s": options.delay}, **model}, log)
    if options.metrics is not None or options.metrics_port is not None:
        yield Metrics(options.metrics, options.metrics_port, log)
