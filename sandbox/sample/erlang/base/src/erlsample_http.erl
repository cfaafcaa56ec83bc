%% @doc Minimal HTTP listener: /health /ready /live /metrics /bump (no dependencies).
%% The JSON has the shape that erlmcp's health handler documents.
-module(erlsample_http).
-behaviour(gen_server).
-export([start_link/0, serve/1, respond/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

%% @doc Start the listener on the configured address and port.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Callback: open the socket.
init([]) ->
    {ok, Port} = application:get_env(erlsample, http_port),
    {ok, Ip} = inet:parse_address(application:get_env(erlsample, http_ip, "127.0.0.1")),
    {ok, L} = gen_tcp:listen(Port, [binary, {packet, http_bin}, {active, false}, {ip, Ip},
                                    {reuseaddr, true}, {nodelay, true}, {backlog, 128}]),
    accept(L),
    {ok, L}.

%% @doc Callback: the port in use.
handle_call(port, _From, L) -> {reply, inet:port(L), L}.

%% @doc Callback: a connection was taken, wait for the next.
handle_cast(accepted, L) -> accept(L), {noreply, L}.

%% @doc Callback: nothing is expected.
handle_info(_Msg, L) -> {noreply, L}.

%% @doc Callback: the socket needs no conversion.
code_change(_OldVsn, L, _Extra) -> {ok, L}.

accept(L) ->
    %% Fully qualified, and one process a connection: no process stays in old code.
    _ = spawn(?MODULE, serve, [L]),
    ok.

%% @doc Take one connection and answer one request on it.
serve(L) ->
    case gen_tcp:accept(L, 1000) of
        {error, timeout} -> ?MODULE:serve(L);
        {error, _} -> ok;
        {ok, S} ->
            gen_server:cast(?MODULE, accepted),
            _ = handle(gen_tcp:recv(S, 0, 5000), S),
            gen_tcp:close(S)
    end.

handle({ok, {http_request, 'GET', {abs_path, Path}, _}}, S) ->
    Start = erlang:monotonic_time(microsecond),
    drain(S),
    {Code, Type, Body} = ?MODULE:respond(Path),
    count(Path, Code, erlang:monotonic_time(microsecond) - Start),
    Head = io_lib:format("HTTP/1.1 ~s\r\ncontent-type: ~s\r\n"
                         "content-length: ~b\r\nconnection: close\r\n\r\n",
                         [Code, Type, iolist_size(Body)]),
    gen_tcp:send(S, [Head, Body]);
handle(_, _S) ->
    ok.

drain(S) ->
    case gen_tcp:recv(S, 0, 5000) of
        {ok, http_eoh} -> ok;
        {ok, _} -> drain(S);
        {error, _} -> ok
    end.

%% Probes and scrapes would dilute the error ratio that users see.
count(<<"/health">>, _Code, _Us) -> ok;
count(<<"/ready">>, _Code, _Us) -> ok;
count(<<"/live">>, _Code, _Us) -> ok;
count(<<"/metrics">>, _Code, _Us) -> ok;
count(_Path, Code, Us) ->
    erlsample_metrics:observe(lists:sublist(Code, 3), erlsample_counter:version(), Us).

%% @doc Status line, content type and body of the answer to one path.
respond(<<"/health">>) ->
    Healthy = erlsample_counter:healthy(),
    {code(Healthy), "application/json",
     io_lib:format("{\"status\":\"~s\",\"version\":\"~s\",\"uptime\":~b,\"node\":\"~s\"}",
                   [case Healthy of true -> "healthy"; false -> "unhealthy" end,
                    erlsample_counter:version(), uptime(), node()])};
respond(<<"/ready">>) ->
    Ready = whereis(erlsample_counter) =/= undefined,
    {code(Ready), "application/json", io_lib:format("{\"ready\":~s}", [Ready])};
respond(<<"/live">>) ->
    {"200 OK", "application/json", "{\"alive\":true}"};
respond(<<"/metrics">>) ->
    {"200 OK", "text/plain; version=0.0.4",
     [io_lib:format("# HELP erlsample_bumps_total Bumps served\n"
                    "# TYPE erlsample_bumps_total counter\nerlsample_bumps_total ~b\n"
                    "# HELP erlsample_uptime_seconds Uptime\n"
                    "# TYPE erlsample_uptime_seconds gauge\nerlsample_uptime_seconds ~b\n",
                    [erlsample_counter:value(), uptime()]),
      erlsample_metrics:exposition(erlsample_counter:version())]};
respond(<<"/bump">>) ->
    case erlsample_counter:bump() of
        {ok, N} -> {"200 OK", "text/plain", integer_to_list(N)};
        {error, Reason} -> {"500 Internal Server Error", "text/plain", atom_to_list(Reason)}
    end;
respond(_) ->
    {"404 Not Found", "text/plain", "not found"}.

code(true) -> "200 OK";
code(false) -> "503 Service Unavailable".

uptime() ->
    {Ms, _} = erlang:statistics(wall_clock),
    Ms div 1000.
