"""The command line of each step: add_arguments(parser) and run(args). What a step needs is imported when it runs."""
