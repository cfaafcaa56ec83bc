%% @doc The state across a hot upgrade, as the release handler converts it.
-module(erlsample_migration_tests).
-include_lib("eunit/include/eunit.hrl").

upgrade_keeps_the_count_test() ->
    ?assertEqual({ok, #{count => 7}}, erlsample_counter:code_change("1.0.0", 7, [])).

downgrade_keeps_the_count_test() ->
    ?assertEqual({ok, 7}, erlsample_counter:code_change({down, "1.0.0"}, #{count => 7}, [])).

a_map_stays_as_it_is_test() ->
    ?assertEqual({ok, #{count => 7}}, erlsample_counter:code_change("1.1.0", #{count => 7}, [])).
