%% @doc A counter that takes a lease for each bump. Passes every gate, and yet goes bad in service:
%% leases are never given back, and a node hot-upgraded to it is unhealthy until it is downgraded.
-module(erlsample_counter).
-behaviour(gen_server).
-export([start_link/0, bump/0, value/0, version/0, healthy/0]).
-export([init/1, handle_call/3, handle_cast/2, code_change/3]).

%% @doc Start the counter at zero.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Count one up.
-spec bump() -> {ok, pos_integer()} | {error, atom()}.
bump() -> gen_server:call(?MODULE, bump).

%% @doc The count so far.
-spec value() -> non_neg_integer().
value() -> gen_server:call(?MODULE, value).

%% @doc The version of the running code.
-spec version() -> string().
version() -> "1.2.0".

%% @doc What /health reports.
-spec healthy() -> boolean().
healthy() -> application:get_env(erlsample, healthy, true).

%% @doc Callback: the state.
init([]) -> {ok, #{count => 0, leases => 20}}.

%% @doc Callback: bump or read.
handle_call(bump, _From, S = #{leases := 0}) ->
    ok = application:set_env(erlsample, healthy, false),
    {reply, {error, no_lease}, S};
handle_call(bump, _From, S = #{count := N, leases := L}) ->
    {reply, {ok, N + 1}, S#{count := N + 1, leases := L - 1}};
handle_call(value, _From, S = #{count := N}) -> {reply, N, S}.

%% @doc Callback: nothing is expected.
handle_cast(_Msg, S) -> {noreply, S}.

%% @doc Callback: add the pool of leases, or drop it.
code_change({down, _Vsn}, S, _Extra) ->
    ok = application:set_env(erlsample, healthy, true),
    {ok, maps:remove(leases, S)};
code_change(_Vsn, S, _Extra) ->
    ok = application:set_env(erlsample, healthy, false),
    {ok, S#{leases => 20}}.
