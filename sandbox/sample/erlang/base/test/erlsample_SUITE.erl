%% @doc The running application over HTTP.
-module(erlsample_SUITE).
-include_lib("common_test/include/ct.hrl").
-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([health/1, probes/1, unhealthy/1, metrics/1, restart/1]).

all() -> [health, probes, unhealthy, metrics, restart].

init_per_suite(Config) ->
    ok = application:load(erlsample),
    ok = application:set_env(erlsample, http_port, 0),
    {ok, _} = application:ensure_all_started(erlsample),
    {ok, Port} = gen_server:call(erlsample_http, port),
    [{port, Port} | Config].

end_per_suite(_Config) ->
    application:stop(erlsample).

health(Config) ->
    {200, Body} = get("/health", Config),
    has("\"status\":\"healthy\"", Body).

probes(Config) ->
    erlsample_http ! stray,
    {200, _} = get("/ready", Config),
    {200, _} = get("/live", Config).

unhealthy(Config) ->
    ok = application:set_env(erlsample, healthy, false),
    {503, _} = get("/health", Config),
    ok = application:set_env(erlsample, healthy, true).

metrics(Config) ->
    Version = erlsample_counter:version(),
    {200, Before} = get("/metrics", Config),
    has(["erlsample_requests_total{status=\"500\",version=\"", Version, "\"} 0"], Before),
    {200, _} = get("/bump", Config),
    {404, _} = get("/nothing", Config),
    {200, Body} = get("/metrics", Config),
    has("erlsample_bumps_total 1\n", Body),
    has(["erlsample_requests_total{status=\"200\",version=\"", Version, "\"} 1"], Body),
    has(["erlsample_requests_total{status=\"404\",version=\"", Version, "\"} 1"], Body),
    has(["duration_seconds_bucket{le=\"+Inf\",version=\"", Version, "\"} 2"], Body),
    has(["duration_seconds_count{version=\"", Version, "\"} 2"], Body).

%% The counts of requests outlive a crash of the counter.
restart(Config) ->
    exit(whereis(erlsample_counter), kill),
    ok = until_ready(Config),
    {200, Body} = get("/metrics", Config),
    has("erlsample_bumps_total 0\n", Body),
    has(["duration_seconds_count{version=\"", erlsample_counter:version(), "\"} 2"], Body).

until_ready(Config) ->
    case get("/ready", Config) of
        {200, _} -> ok;
        {503, _} -> timer:sleep(10), until_ready(Config)
    end.

has(Text, Body) ->
    true = nomatch =/= string:find(Body, unicode:characters_to_binary(Text)).

get(Path, Config) ->
    {ok, S} = gen_tcp:connect("127.0.0.1", proplists:get_value(port, Config),
                              [binary, {active, false}, {packet, raw}]),
    ok = gen_tcp:send(S, ["GET ", Path, " HTTP/1.1\r\nhost: localhost\r\n\r\n"]),
    Reply = recv(S, <<>>),
    <<"HTTP/1.1 ", Code:3/binary, _/binary>> = Reply,
    {binary_to_integer(Code), Reply}.

recv(S, Acc) ->
    case gen_tcp:recv(S, 0, 5000) of
        {ok, B} -> recv(S, <<Acc/binary, B/binary>>);
        {error, closed} -> Acc
    end.
