%% @doc The state across a hot upgrade, as the release handler converts it.
-module(erlsample_migration_tests).
-include_lib("eunit/include/eunit.hrl").

upgrade_and_downgrade_keep_the_count_test() ->
    {ok, Upgraded} = erlsample_counter:code_change("1.1.0", #{count => 7}, []),
    ?assertMatch(#{count := 7, leases := _}, Upgraded),
    ?assertEqual({ok, #{count => 7}}, erlsample_counter:code_change({down, "1.1.0"}, Upgraded, [])).
