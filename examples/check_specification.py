"""A step for CI: take in the memory graph, and fail while a vector does not do what its node says.

    python examples/check_specification.py examples/graph

Run it in a repository. It prints each vector with its node, and for a stale one what has changed since it was trained.
"""

from __future__ import annotations

import argparse
import sys

import persona


def main() -> None:
    parser = argparse.ArgumentParser(description="Fail while a vector is stale.")
    parser.add_argument("place", help="a folder of Markdown nodes, a JSONL file, or the URL of an MCP server")
    parser.add_argument("--repo", default=".", help="the repository")
    args = parser.parse_args()
    try:
        repo = persona.open(args.repo)
        persona.graph_import(repo, args.place, author="CI")
        now, changed = persona.graph_status(repo), persona.graph_diff(repo)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")
    for link in now.links:
        print(f"{link.vector}: {link.reference}, {link.state}")
    for node in changed.nodes:
        print(f"\n{node.name} ({', '.join(node.stale)})", *node.patch, sep="\n")
    sys.exit(f"stale: {', '.join(now.stale)}" if now.stale else 0)


if __name__ == "__main__":
    main()
