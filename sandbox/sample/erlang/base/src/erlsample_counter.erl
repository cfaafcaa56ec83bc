%% @doc A counter whose state must survive a hot upgrade. Version 1: the state is an integer.
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
version() -> "1.0.0".

%% @doc What /health reports.
-spec healthy() -> boolean().
healthy() -> application:get_env(erlsample, healthy, true).

%% @doc Callback: the state.
init([]) -> {ok, 0}.

%% @doc Callback: bump or read.
handle_call(bump, _From, N) -> {reply, {ok, N + 1}, N + 1};
handle_call(value, _From, N) -> {reply, N, N}.

%% @doc Callback: nothing is expected.
handle_cast(_Msg, N) -> {noreply, N}.

%% @doc Callback: a downgrade to this version is carried out by the newer module.
code_change(_OldVsn, N, _Extra) -> {ok, N}.
