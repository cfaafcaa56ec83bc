%% @doc Top supervisor of the counter and the listener. Owns the table of request metrics, so that
%% they outlive a crash of either.
-module(erlsample_sup).
-behaviour(supervisor).
-export([start_link/0, init/1]).

%% @doc Start the supervisor under its own name.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Callback: the children.
init([]) ->
    ok = erlsample_metrics:new(),
    Child = fun(Mod) -> #{id => Mod, start => {Mod, start_link, []}} end,
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10},
          [Child(erlsample_counter), Child(erlsample_http)]}}.
