%% @doc The state across a hot upgrade, as the release handler converts it.
-module(erlsample_migration_tests).
-include_lib("eunit/include/eunit.hrl").

a_state_with_schema_stays_as_it_is_test() ->
    State = #{count => 7, schema => 2},
    ?assertEqual({ok, State}, erlsample_counter:code_change("1.1.0", State, [])).
