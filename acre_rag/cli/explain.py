"""`acre explain`: what a question would cost, before it is asked."""

from typing import Annotated

import typer

from acre_rag.cli import options
from acre_rag.cli.failures import MisuseError
from acre_rag.cli.groups import ModelOptions, OutputOptions, StoreOptions
from acre_rag.cli.session import check_stored, opened_engine, opened_store
from acre_rag.cli.show import show_json
from acre_rag.errors import ConfigError
from acre_rag.request import DEFAULT_NEW_TOKENS, check_question, checked_ids


def explain(
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUESTION]",
            help="What you want to know. Default: a question of a usual length.",
            show_default=False,
        ),
    ] = None,
    *,
    document: options.Documents = None,
    refill_tokens: options.RefillTokens = None,
    max_new_tokens: options.MaxNewTokens = DEFAULT_NEW_TOKENS,
    selection: options.Selection = options.SelectionRule.learned,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure this machine again, whatever was kept of the last time.",
            rich_help_panel="Question",
        ),
    ] = False,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Predict what a question would cost, and which way to answer it is cheapest.

    There are three: *refill*, loading the landmarks and what the question needs from the store;
    *recompute*, encoding the documents again; *prefill*, putting the whole text in front of the
    model, where it fits. Nothing is asked. The first time, this machine is measured for some
    seconds; what was found is kept for this model, device, store and version.

    `acre ask --policy auto` takes the cheapest.

    For example:

        acre explain --document manual.md
        acre explain "What does fault E-33 mean?" --json | jq .cheapest
        acre explain --measure            after the machine has changed
    """
    try:
        if question is not None:
            check_question(question)
        checked_ids(document)
    except ConfigError as error:
        raise MisuseError(str(error)) from error
    with opened_store(place.store, place.key_file) as opened:
        check_stored(opened, document)
        with opened_engine(opened, model, selection) as engine:
            found = engine.explain(
                question, document, refill_tokens, max_new_tokens, measure=measure
            )
    if output.json:
        show_json(found.to_dict())
    else:
        typer.echo(str(found))
