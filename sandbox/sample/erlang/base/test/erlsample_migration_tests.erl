%% @doc The state across a hot upgrade, as the release handler converts it.
-module(erlsample_migration_tests).
-include_lib("eunit/include/eunit.hrl").

the_first_version_converts_nothing_test() ->
    ?assertEqual({ok, 7}, erlsample_counter:code_change("1.0.0", 7, [])).
