%% @doc A counter whose state carries the number of its schema. Passes every gate, but code_change/3 has
%% no clause for the state of a running 1.1.0: the hot upgrade fails after the point of no return.
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
version() -> "1.3.0".

%% @doc What /health reports.
-spec healthy() -> boolean().
healthy() -> application:get_env(erlsample, healthy, true).

%% @doc Callback: the state.
init([]) -> {ok, #{count => 0, schema => 2}}.

%% @doc Callback: bump or read.
handle_call(bump, _From, S = #{count := N}) -> {reply, {ok, N + 1}, S#{count := N + 1}};
handle_call(value, _From, S = #{count := N}) -> {reply, N, S}.

%% @doc Callback: nothing is expected.
handle_cast(_Msg, S) -> {noreply, S}.

%% @doc Callback: the state already has a schema.
code_change(_Vsn, S = #{schema := _}, _Extra) -> {ok, S}.
