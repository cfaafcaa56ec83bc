%% @doc Request metrics in Prometheus text format, counted by status and by the version that served.
-module(erlsample_metrics).
-export([new/0, observe/3, exposition/1]).

-define(BUCKETS, [{5000, "0.005"}, {10000, "0.01"}, {25000, "0.025"}, {50000, "0.05"},
                  {100000, "0.1"}, {250000, "0.25"}, {500000, "0.5"}, {1000000, "1"},
                  {2500000, "2.5"}, {5000000, "5"}, {10000000, "10"}, {30000000, "30"},
                  {infinity, "+Inf"}]).

%% @doc Create the table; it belongs to the calling process.
-spec new() -> ok.
new() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc Count one answered request.
-spec observe(Status :: string(), Version :: string(), Microseconds :: non_neg_integer()) -> ok.
observe(Status, Version, Us) ->
    add({requests, Version, Status}, 1),
    %% An integer sorts before the atom infinity: the last bucket takes every request.
    [add({bucket, Version, Le}, 1) || {Le, _} <- ?BUCKETS, Us =< Le],
    add({sum, Version}, Us),
    add({count, Version}, 1).

%% @doc All metrics as text. The series of the running version are there from the first scrape on, at
%% zero: without them the first requests would be lost to rate().
-spec exposition(Version :: string()) -> iolist().
exposition(Version) ->
    [add({requests, Version, Status}, 0) || Status <- ["200", "500"]],
    [add({bucket, Version, Le}, 0) || {Le, _} <- ?BUCKETS],
    add({sum, Version}, 0),
    add({count, Version}, 0),
    [head("erlsample_requests_total", "counter", "Requests answered"),
     [io_lib:format("erlsample_requests_total{status=\"~s\",version=\"~s\"} ~b~n", [S, V, N])
      || {{requests, V, S}, N} <- ets:tab2list(?MODULE)],
     head("erlsample_request_duration_seconds", "histogram", "Time to answer a request"),
     [io_lib:format("erlsample_request_duration_seconds_bucket{le=\"~s\",version=\"~s\"} ~b~n",
                    [proplists:get_value(Le, ?BUCKETS), V, N])
      || {{bucket, V, Le}, N} <- ets:tab2list(?MODULE)],
     [io_lib:format("erlsample_request_duration_seconds_sum{version=\"~s\"} ~.6f~n", [V, N / 1.0e6])
      || {{sum, V}, N} <- ets:tab2list(?MODULE)],
     [io_lib:format("erlsample_request_duration_seconds_count{version=\"~s\"} ~b~n", [V, N])
      || {{count, V}, N} <- ets:tab2list(?MODULE)]].

add(Key, N) ->
    _ = ets:update_counter(?MODULE, Key, N, {Key, 0}),
    ok.

head(Name, Type, Help) ->
    io_lib:format("# HELP ~s ~s~n# TYPE ~s ~s~n", [Name, Help, Name, Type]).
