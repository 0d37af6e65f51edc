"""``python -m bihrnet_edge``."""

from bihrnet_edge.cli import main

main()
