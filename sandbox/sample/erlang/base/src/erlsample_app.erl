%% @doc The application: starts and stops the supervision tree.
-module(erlsample_app).
-behaviour(application).
-export([start/2, stop/1]).

%% @doc Start the supervision tree.
start(_Type, _Args) ->
    erlsample_sup:start_link().

%% @doc Nothing outside the tree needs cleaning up.
stop(_State) ->
    ok.
