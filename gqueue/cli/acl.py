"""`gqueue acl`: the rights that a Redis user needs for a part in a queue, as commands for redis-cli."""

import click

from gqueue.core.model import check_name

ROLES = ("producer", "worker", "reader", "operator")


@click.command("acl", short_help="Print the rights that a Redis user needs.")
@click.option("--queue", "queues", metavar="NAME", multiple=True, required=True, help="A queue; repeatable.")
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True, help="What the user does; repeatable.  [default: each]"
)
@click.option("--user", help="One user with all of these roles.  [default: QUEUE-ROLE, a user for each role]")
@click.option(
    "--server",
    type=click.Choice(["6.2", "7.0"]),
    default="7.0",
    show_default=True,
    help="The oldest server that is to take it.",
)
def command(queues: tuple[str, ...], roles: tuple[str, ...], user: str | None, server: str) -> None:
    """Print ACL SETUSER commands: what each role needs, and nothing else. Asks no server.

    Give the user a password yourself, so that it is in no history: ACL SETUSER NAME ">PASSWORD". What ran before is
    kept: passwords, and other users. To apply: gqueue acl --queue mail | redis-cli
    """
    from gqueue.store import acl

    for queue in queues:
        check_name("queue", queue)
    chosen = roles or ROLES
    users = [(user, chosen)] if user else [(f"{queues[0]}-{role}", (role,)) for role in chosen]
    for name, its in users:
        check_name("user", name)
        click.echo(" ".join(["ACL SETUSER", name, "on", *acl.rules(queues, its, selective=server != "6.2")]))
