"""`distbp help`."""

from __future__ import annotations

import shutil
import sys

import click

from distbp.ranks.launch import Launch, printable

NARROWEST, WIDEST = 40, 100  # lines that are longer are hard to read
NO_TERMINAL = (80, 24)


@click.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_command(context: click.Context, topic: str | None) -> None:
    """Shows a page of the documentation, or lists the pages.

    \b
    distbp help             list the topics
    distbp help training    show the page about training
    distbp help train       the options of a command, as distbp train --help
    """
    if isinstance(context.obj, Launch) and not context.obj.only_first():
        return
    from distbp.pages.plain_text import plain_text
    from distbp.pages.topics import topics

    pages = {page.name: page for page in topics()}
    group = context.find_root().command
    if topic is None:
        longest = max(map(len, pages))
        lines = [f"  {page.name:<{longest}}  {page.title}" for page in pages.values()]
        click.echo(printable("\n".join(["distbp help TOPIC shows one of these pages:", "", *lines])))
    elif topic in pages:
        width = min(max(shutil.get_terminal_size(NO_TERMINAL).columns, NARROWEST), WIDEST)
        _show(plain_text(printable(pages[topic].text()), width, lambda words: click.style(words, bold=True)))
    elif isinstance(group, click.Group) and (command := group.get_command(context, topic)):
        with click.Context(command, context.find_root(), topic) as of_command:
            click.echo(command.get_help(of_command))
    else:
        raise click.UsageError(f"{printable(topic)!r} is not a topic. The topics are {', '.join(pages)}")


def _show(text: str) -> None:
    """Prints it; through the pager of the user if it is longer than a terminal that somebody looks at."""
    height = shutil.get_terminal_size(NO_TERMINAL).lines
    if sys.stdin.isatty() and sys.stdout.isatty() and text.count("\n") >= height:
        click.echo_via_pager(text)
    else:
        click.echo(text, nl=False)
