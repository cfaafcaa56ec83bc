%% @doc The counter on its own.
-module(erlsample_counter_tests).
-include_lib("eunit/include/eunit.hrl").

counter_test_() ->
    {setup,
     fun() -> {ok, Pid} = erlsample_counter:start_link(), Pid end,
     fun(Pid) -> gen_server:stop(Pid) end,
     [{"starts at zero", ?_assertEqual(0, erlsample_counter:value())},
      {"counts", ?_assertEqual({ok, 1}, erlsample_counter:bump())},
      {"ignores what it does not know",
       ?_test(begin gen_server:cast(erlsample_counter, what), 1 = erlsample_counter:value() end)}]}.

unknown_path_test() ->
    ?assertMatch({"404 Not Found", _, _}, erlsample_http:respond(<<"/nope">>)).
