"""rebar3: the measuring tools of Erlang projects, and their releases."""
